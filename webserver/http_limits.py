"""HTTP as uvicorn speaks it, for clients that mean harm: each limit is kept while the bytes come, before anybody works.

uvicorn bounds neither address, headers and body nor the time that a request takes to come. What exceeds a limit is
answered in one line and cut; so is the connection that took longest where there are too many.
"""

import asyncio
import json
from collections import Counter
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from webserver.guard import Held, ServerLimits

# A client that is still sending reads its answer within so much time and so many bytes, or never.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 1 << 20
# A chunk of one byte takes five more.
_FRAMING_TIMES_BODY = 8


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's, within limits. Time in which the application does not read is not the client's."""

    def __init__(self, *arguments: Any, limits: ServerLimits, held: Held, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits, self._held = limits, held
        self._timer: asyncio.TimerHandle | None = None
        self._begun, self._received = 0.0, 0
        self._heads, self._head_bytes = 0, 0
        self._header_bytes, self._body_bytes, self._framing_bytes = 0, 0, 0
        self._in_head = True
        self._cut_after: int | None = None

    # What a connection goes through.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > self.limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        self._held.release(id(self))
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._cut_after is not None:
            self._cut_after -= len(data)
            if self._cut_after < 0:
                self.transport.abort()
            return
        was_in_head, heads, body = self._in_head, self._heads, self._body_bytes
        super().data_received(data)
        if self._timer is not None:
            # The request may have begun with it.
            self._received += len(data)
        if was_in_head and heads == self._heads and self._cut_after is None:
            # A header that never ends is told to nobody until it does.
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.url + self.limits.headers:
                self._refuse_headers()
        elif not was_in_head and not self._in_head and heads == self._heads:
            # Nor is what chunks say of themselves.
            self._framing_bytes += len(data) - (self._body_bytes - body)
            if self._framing_bytes > self.limits.headers + _FRAMING_TIMES_BODY * self._body_bytes:
                self._refuse(
                    400, "the chunks of the body say more than they hold; send it with content-length"
                )

    # What a request goes through.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = self._body_bytes = self._framing_bytes = 0
        self._wait()

    def on_url(self, url: bytes) -> None:
        if self._cut_after is not None:
            return
        super().on_url(url)
        if len(self.url) > self.limits.url:
            self._refuse(414, f"the address has more than {self.limits.url:,} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._cut_after is not None:
            return
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self.limits.headers or len(self.headers) > self.limits.header_count:
            self._refuse_headers()

    def on_headers_complete(self) -> None:
        self._heads, self._head_bytes, self._in_head = self._heads + 1, 0, False
        if self._cut_after is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._cut_after is not None:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self.limits.body:
            self._refuse(413, f"the body has more than {self.limits.body:,} bytes")
            return
        super().on_body(body)
        if self.limits.held is None or self.cycle.response_complete:
            return
        if self._held.add(id(self), len(body)) > self.limits.held:
            self._held.release(id(self))
            self._refuse(503, "the server holds as much as it can; send it again in a second", retry=True)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._came()
        if self._cut_after is None:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._held.release(id(self))
        super().on_response_complete()

    # How long it may take.

    def _wait(self) -> None:
        """A request is expected from now on, or has begun to come."""
        self._came()
        self._begun = self.loop.time()
        self._timer = self.loop.call_later(self.limits.allowed(0), self._look)

    def _came(self) -> None:
        """It is here, or nobody waits for it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._received = 0

    def _look(self) -> None:
        if self.flow.read_paused:
            self._begun = self.loop.time()
        left = self._begun + self.limits.allowed(self._received) - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
            return
        self._timer = None
        if self._received:
            least = self.limits.bytes_per_second >> 10
            self._refuse(
                408,
                f"the request did not come within {self.limits.seconds:g} s, or at {least} KiB a second after that",
            )
        else:
            self.transport.close()

    # How it ends.

    def _make_room(self) -> None:
        """Cut who waits for no answer, of the address with the most connections the oldest; else the newest one."""
        connections = [each for each in self.connections if isinstance(each, LimitedProtocol)]
        by_address = Counter(each.address for each in connections)
        waiting = [each for each in connections if each is not self and not each.is_answering]
        if waiting:
            oldest = max(waiting, key=lambda each: (by_address[each.address], -each._begun))
            if by_address[oldest.address] >= by_address[self.address]:
                oldest.transport.close()
                return
        self._refuse(503, f"the server has {self.limits.connections} connections already", retry=True)

    @property
    def address(self) -> str:
        """Whose connection it is."""
        return str(self.client[0]) if self.client else ""

    @property
    def is_answering(self) -> bool:
        """Whether a request came whole and is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def _refuse_headers(self) -> None:
        most = f"{self.limits.headers:,} bytes, or {self.limits.header_count} of them"
        self._refuse(431, f"the headers have more than {most}")

    def _refuse(self, status: int, said: str, *, retry: bool = False) -> None:
        """Answer, unless an answer is under way, and cut."""
        if self._cut_after is not None or self.transport.is_closing():
            return
        self._came()
        answered = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if self.cycle is not None and not self.cycle.response_complete:
            # Whoever reads the body hears that no more of it comes.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._cut_after = _LINGER_BYTES
        if answered:
            self.transport.close()
            return
        self.transport.write(_answer(status, said, retry))
        if self.transport.can_write_eof():
            # Closed at once, what it still sends would be answered by a reset, before it reads.
            self.flow.resume_reading()
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


def _answer(status: int, said: str, retry: bool) -> bytes:
    # By the names that our clients and lakeFS's look for.
    body = json.dumps({"error": said, "message": said}).encode()
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
    head += "retry-after: 1\r\n" if retry else ""
    return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
