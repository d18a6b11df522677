"""A client that sends a request too slowly is cut; one that is merely slow, or idle between requests, is not."""

import socket
from collections.abc import Callable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from visionops.serving.prediction_server import in_thread
from visionops.serving.webhook import Event, WebhookGuard, receiver_app
from webserver.guard import ServerLimits

HEAD = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n"
TOKEN = "t" * 32


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse((await request.body()).decode())


IMPATIENT = ServerLimits(seconds=0.2)


@pytest.fixture
def connect() -> Iterator[Callable[[], socket.socket]]:
    """A connection to a server that echoes bodies."""
    with in_thread(Starlette(routes=[Route("/", echo, methods=["POST"])]), limits=IMPATIENT) as server:
        host, _, port = server.address.removeprefix("http://").partition(":")
        yield lambda: socket.create_connection((host, int(port)), timeout=30)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side ends it."""
    found = b""
    while part := connection.recv(4096):
        found += part
    return found


@pytest.mark.parametrize("sent", [b"POST / HT", HEAD, HEAD + b"\r\n", HEAD + b"\r\nfive5"])
def test_a_request_that_does_not_go_on_is_cut_wherever_it_stopped(
    connect: Callable[[], socket.socket], sent: bytes
):
    with connect() as connection:
        connection.sendall(sent)
        answer = all_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"connection: close" in answer


def test_a_connection_on_which_nothing_is_asked_is_closed(connect: Callable[[], socket.socket]):
    with connect() as connection:
        assert all_of(connection) == b""


def test_others_are_answered_meanwhile_and_one_connection_answers_several(
    connect: Callable[[], socket.socket],
):
    with connect() as slow, connect() as quick:
        slow.sendall(HEAD)
        for word in (b"0123456789", b"9876543210"):
            quick.sendall(HEAD + b"\r\n" + word)
            found = b""
            while not found.endswith(word):
                found += quick.recv(4096)
            assert found.startswith(b"HTTP/1.1 200 ")
        assert all_of(slow).startswith(b"HTTP/1.1 408 ")


def test_what_lakefs_would_send_is_cut_too():
    seen: list[object] = []

    def look(event: Event) -> str:
        seen.append(event)
        return ""

    with in_thread(receiver_app(WebhookGuard(TOKEN), look), limits=IMPATIENT) as server:
        host, _, port = server.address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            authorised = (
                f"POST /lakefs HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 99\r\n\r\n{{"
            )
            connection.sendall(authorised.encode())
            assert all_of(connection).startswith(b"HTTP/1.1 408 ")
    assert seen == []


def test_a_large_image_on_a_slow_line_has_the_time_that_it_takes():
    limits = ServerLimits()
    assert limits.allowed(0) == limits.seconds
    assert limits.allowed(32 << 20) > 500
    assert limits.allowed(1) < limits.seconds + 1, "a byte a minute wins no time"
