"""Who may ask, and how much: by a token, by the name the server is called, not through somebody else's web page,
and within limits on what one client, and all of them, may take.
"""

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

LEAST_TOKEN = 16
ANY_HOST = "*"
_SAFE = ("GET", "HEAD", "OPTIONS")
_FOREIGN = ("cross-site", "same-site")


class Guarded:
    """An ASGI application behind a guard.

    With a `token` every request but for the `public` paths carries it as `Authorization: Bearer`. Without one a request
    is addressed to this machine: by an IP address, a name without dots, or one of `hosts`, since a page elsewhere could
    have a name of its own point here. What changes or costs something is not asked for by another site's page.
    """

    def __init__(
        self,
        application: Application,
        *,
        token: str = "",
        hosts: Sequence[str] = (),
        public: Sequence[str] = (),
    ) -> None:
        """Raises ValueError for a token that could be guessed."""
        if token and len(token) < LEAST_TOKEN:
            raise ValueError(
                f"the token has {len(token)} characters, {LEAST_TOKEN} are the least: make one with "
                '`python -c "import secrets; print(secrets.token_urlsafe(32))"`'
            )
        self._application, self._public = application, tuple(public)
        self._expected = f"Bearer {token}".encode() if token else b""
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := self._why_not(scope)) is not None:
            await _refuse(send, *refused)
            return
        await self._application(scope, receive, send)

    def _why_not(self, scope: Message) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if scope["method"] not in _SAFE and is_foreign(headers, host, self._hosts):
            return 403, "requests from another site's page are not taken"
        if not self._expected:
            if self._is_called(host):
                return None
            return 403, f"this server is not called {host[:80]!r}: start it with --allow-host NAME"
        if scope["path"] in self._public:
            return None
        if hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            return None
        return 401, "no valid token: send `Authorization: Bearer <token>`"

    def _is_called(self, host: str) -> bool:
        if ANY_HOST in self._hosts:
            return True
        name = _name_of(host)
        if name is None:
            return False
        return "." not in name or name in self._hosts or _is_address(name)


def is_foreign(headers: Mapping[bytes, bytes], host: str, own: Collection[str] = ()) -> bool:
    """Whether a request was made by a page of another site than `host`, or one of `own`, as its browser says."""
    if headers.get(b"sec-fetch-site", b"").decode("latin-1") in _FOREIGN:
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    try:
        asked_by = urlsplit(origin.decode("latin-1"))
        return asked_by.netloc.lower() != host.lower() and asked_by.hostname not in own
    except ValueError:
        return True


def _name_of(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(send: Send, status: int, said: str) -> None:
    body = json.dumps({"error": said}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True)
class ServerLimits:
    """Bytes of an address, of all headers and of a body, numbers of headers and connections; `held` are the bytes of
    all bodies that wait for their answers, None where bodies are not kept.

    A request may take `seconds` to come, and a second more for each `bytes_per_second` of it; a connection may be
    `idle` for so many seconds between two.
    """

    url: int = 16 << 10
    headers: int = 32 << 10
    header_count: int = 100
    body: int = 64 << 10
    connections: int = 512
    held: int | None = 256 << 20
    seconds: float = 15.0
    bytes_per_second: int = 64 << 10
    idle: float = 5.0

    def allowed(self, received: int) -> float:
        """How many seconds a request may take of which so many bytes came."""
        return self.seconds + received / self.bytes_per_second


@dataclass
class Held:
    """Bytes of bodies that a server holds, over all connections."""

    bytes: int = 0
    by_connection: dict[int, int] = field(default_factory=dict)

    def add(self, connection: int, count: int) -> int:
        """Note what came on a connection; what all of them hold."""
        self.by_connection[connection] = self.by_connection.get(connection, 0) + count
        self.bytes += count
        return self.bytes

    def release(self, connection: int) -> None:
        """What came on a connection is answered."""
        self.bytes -= self.by_connection.pop(connection, 0)
