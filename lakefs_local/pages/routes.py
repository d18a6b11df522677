"""Which page answers at which address, the two addresses that are no pages, and who may look without a key pair:
whoever runs the server, at this machine, and nobody through them.
"""

import ipaddress
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from lakefs_local.http.exchange import Call, Refusal, Reply, reply_json
from lakefs_local.http.server import CONTENT_TYPE, Server
from lakefs_local.pages import render, views
from lakefs_local.pages.render import HEADERS, render_page

_STYLE = (Path(__file__).parent / "style.css").read_bytes()
PAGES = [
    ("GET", "/", views.page_repositories),
    ("GET", "/repositories", views.page_repositories),
    ("GET", "/repositories/{repository}", views.page_objects),
    ("GET", "/repositories/{repository}/objects", views.page_objects),
    ("GET", "/repositories/{repository}/object", views.page_object),
    ("GET", "/repositories/{repository}/preview", render.page_preview),
    ("GET", "/repositories/{repository}/download", render.page_download),
    ("GET", "/repositories/{repository}/commits", views.page_commits),
    ("GET", "/repositories/{repository}/commits/{commit}", views.page_commit),
    ("GET", "/repositories/{repository}/compare", views.page_compare),
    ("GET", "/repositories/{repository}/branches", views.page_branches),
    ("GET", "/repositories/{repository}/tags", views.page_tags),
]
PUBLIC = {"style", "metrics"}
_PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
_SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
# A connection that is over, as the kernel numbers states: it belongs to nobody any more.
_TIME_WAIT = "06"
_REMEMBERED = 32


async def style(server: Server, call: Call) -> Reply:
    """The one style sheet."""
    return Reply(200, _STYLE, "text/css; charset=utf-8", {**HEADERS, "cache-control": "max-age=3600"})


async def metrics(server: Server, call: Call) -> Reply:
    """For Prometheus; says nothing about what is stored."""
    return Reply(200, server.metrics.text(), CONTENT_TYPE)


async def collect(server: Server, call: Call) -> Reply:
    """Garbage collection, asked for by `python -m lakefs_local gc` while a server runs."""
    from lakefs_local.maintenance import collect as collect_now
    from lakefs_local.store import Busy

    try:
        collected = await server.work(lambda: collect_now(server.store, server.guarded.gate))
    except Busy as problem:
        raise Refusal(503, str(problem)) from None
    return reply_json(200, collected.told())


OTHERS = [
    ("GET", "/_lakefs_local/style.css", style),
    ("GET", "/metrics", metrics),
    ("POST", "/_lakefs_local/collect", collect),
]


def refusal(status: int, message: str) -> Reply:
    """A page that says why there is none; 401 makes a browser ask for the key pair."""
    reply = render_page("message.html", status, title="Sorry", message=message)
    if status == 401:
        reply.headers["www-authenticate"] = 'Basic realm="lakeFS (access key id and secret)", charset="UTF-8"'
    return reply


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
