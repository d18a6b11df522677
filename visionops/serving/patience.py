"""How long a client may take to send a request: one that sends a byte a minute holds no connection open.

uvicorn limits how long a connection may be idle between two requests, and not how long one request may take to come.
"""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Enough for whoever types a request by hand, and a line of half a megabit.
SECONDS = 15.0
BYTES_PER_SECOND = 64 << 10


def allowed(received: int) -> float:
    """How many seconds a request may take of which so many bytes came."""
    return SECONDS + received / BYTES_PER_SECOND


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's, with a limit to how long a request takes to come; one that takes longer is answered 408 and cut.

    Time in which the application does not read is not the client's.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._begun, self._received = 0.0, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._timer is not None:
            # The request may have begun with it.
            self._received += len(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait()

    def on_message_complete(self) -> None:
        self._came()
        super().on_message_complete()

    def _wait(self) -> None:
        """A request is expected from now on, or has begun to come."""
        self._came()
        self._begun = self.loop.time()
        self._timer = self.loop.call_later(allowed(0), self._look)

    def _came(self) -> None:
        """It is here, or nobody waits for it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._received = 0

    def _look(self) -> None:
        if self.flow.read_paused:
            self._begun = self.loop.time()
        left = self._begun + allowed(self._received) - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
            return
        self._timer = None
        if self._received and not (self.cycle is not None and self.cycle.response_started):
            self.transport.write(_too_slow())
        self.transport.close()


def _too_slow() -> bytes:
    said = f"the request did not come within {SECONDS:g} s, or at {BYTES_PER_SECOND >> 10} KiB a second after that"
    body = json.dumps({"error": said}).encode()
    head = (
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
