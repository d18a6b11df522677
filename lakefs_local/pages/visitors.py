"""Who may look at the pages without a key pair: whoever runs the server, at this machine, and nobody through them.

A link that stands in another system's metadata then opens at once. What is asked for must come from this machine and
this user, be addressed to this machine (a name of somebody else's that was made to point here is DNS rebinding), not
be passed on by a proxy, and be a page that was opened, not a part of a page of another site.
"""

import ipaddress
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from lakefs_local.http.call import Call

_PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
_SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
# A connection that is over, as the kernel numbers states: it belongs to nobody any more.
_TIME_WAIT = "06"
_REMEMBERED = 32


class Visitors:
    """Tells who asks one server, which listens on this machine only; of the last connections it is remembered."""

    def __init__(self) -> None:
        # The server gives all requests of a connection one and the same tuple for the other end.
        self._looked_up: deque[tuple[object, bool]] = deque(maxlen=_REMEMBERED)

    def is_at_home(self, call: Call) -> bool:
        """Whether a request needs no key pair to see a page."""
        client, server = call.scope.get("client"), call.scope.get("server")
        if client is None or server is None or not _is_loopback(client[0]) or not _is_loopback(server[0]):
            return False
        if any(name in call.headers for name in _PASSED_ON):
            return False
        hosts = [value.decode("latin-1") for name, value in call.scope["headers"] if name == b"host"]
        if not hosts or not all(_names_this_machine(host) for host in hosts):
            return False
        return _was_opened(call) and self._is_own(client, server)

    def _is_own(self, client: tuple[str, int], server: tuple[str, int]) -> bool:
        for connection, own in self._looked_up:
            if connection is client:
                return own
        own = all(owner == os.geteuid() for owner in _owners(client[1], server[1]))
        self._looked_up.append((client, own))
        return own


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _was_opened(call: Call) -> bool:
    """Whether a person opened the page, or it is part of one of this server's own, as far as the browser says."""
    if call.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    return (
        call.headers.get("sec-fetch-mode") == "navigate" and call.headers.get("sec-fetch-dest") == "document"
    )


def _owners(client_port: int, server_port: int) -> Iterator[int]:
    """The users whose sockets are a connection's other end, where the system says so (Linux)."""
    for table in _SOCKETS:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            (
                _,
                local,
                remote,
                state,
                *_,
            ) = fields = line.split()
            ports = int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)
            if ports == (client_port, server_port) and state != _TIME_WAIT:
                yield int(fields[7])
