"""What one client may take of a server: each limit is answered in one line, and everybody else is served."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from visionops.serving.prediction_server import PredictionServer, in_thread
from webserver.guard import ServerLimits

SMALL = ServerLimits(url=1000, headers=2000, header_count=20, body=10_000, connections=8, held=25_000)


class Echo:
    """Gives bodies back; those for /later once it is told to."""

    def __init__(self) -> None:
        self.going_on = threading.Event()
        self.cut = threading.Event()
        self.came = threading.Semaphore(0)
        self.asgi = Starlette(
            routes=[
                Route("/", self.echo, methods=["GET", "POST"]),
                Route("/later", self.later, methods=["POST"]),
            ]
        )

    async def echo(self, request: Request) -> Response:
        try:
            return PlainTextResponse((await request.body()).decode("latin-1"))
        except ClientDisconnect:
            self.cut.set()
            return Response(status_code=400)

    async def later(self, request: Request) -> Response:
        body = await request.body()
        self.came.release()
        while not self.going_on.is_set():
            await asyncio.sleep(0.01)
        return PlainTextResponse(str(len(body)))


@contextmanager
def served(limits: ServerLimits = SMALL) -> Iterator[tuple[Echo, PredictionServer]]:
    echo = Echo()
    with in_thread(echo.asgi, limits=limits) as server:
        yield echo, server


def connect(server: PredictionServer) -> socket.socket:
    url = httpx.URL(server.address)
    assert url.port is not None
    return socket.create_connection((url.host, url.port), timeout=30)


def told(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and words of an answer, after which the other side closes."""
    found = b""
    while part := connection.recv(4096):
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower(), found
    return int(head.split()[1]), json.loads(body)


REQUESTS = {
    "a long address": (b"GET /" + b"a" * 1100 + b" HTTP/1.1\r\nhost: here\r\n\r\n", 414, "1,000 bytes"),
    "a long header": (b"GET / HTTP/1.1\r\nhost: here\r\nx: " + b"a" * 2100 + b"\r\n\r\n", 431, "2,000 bytes"),
    "many headers": (b"GET / HTTP/1.1\r\nhost: here\r\n" + b"x: y\r\n" * 30 + b"\r\n", 431, "20 of them"),
    "a long body": (
        b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 10001\r\n\r\n" + b"a" * 10001, 413, "10,000 bytes"
    ),
    "a long body in chunks": (
        b"POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
        + (b"3e8\r\n" + b"a" * 1000 + b"\r\n") * 11, 413, "10,000 bytes"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REQUESTS)
def test_what_is_too_long_is_answered_with_its_limit(what: str):
    request, status, said = REQUESTS[what]
    with served() as (_, server), connect(server) as connection:
        connection.sendall(request)
        answered, words = told(connection)
        assert (answered, said in words["error"]) == (status, True), words
        assert words["error"] == words["message"]
        assert httpx.get(server.address).status_code == 200


CHUNKED = b"POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
ENDLESS = {
    "address": (b"GET /", b"a" * 600),
    "header": (b"GET / HTTP/1.1\r\nx: ", b"a" * 600),
    "headers": (b"GET / HTTP/1.1\r\n", b"x: y\r\n" * 100),
    "name of a chunk": (CHUNKED + b"5;", b"a" * 600),
    "names of chunks": (CHUNKED, b"1;" + b"a" * 600 + b"\r\nx\r\n"),
}


def test_a_body_may_come_byte_by_byte():
    with served() as (_, server), connect(server) as connection:
        connection.sendall(CHUNKED)
        for _ in range(50):
            connection.sendall(b"1\r\nx\r\n" * 100)
        connection.sendall(b"0\r\n\r\n")
        found = b""
        while not found.endswith(b"x" * 5000):
            found += connection.recv(1 << 16)
        assert found.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_is_cut_before_it_fills_memory(what: str):
    begun, more = ENDLESS[what]
    # Whatever a body may hold: what frames it is bounded all the same.
    with served(replace(SMALL, body=1 << 30, held=None)) as (_, server), connect(server) as connection:
        connection.sendall(begun)
        sent = 0
        try:
            while sent < 100 << 20:
                sent += connection.send(more)
        except OSError:
            pass
        assert sent < 100 << 20
        assert httpx.get(server.address).status_code == 200


def test_an_application_that_reads_a_body_hears_that_it_was_cut():
    with served() as (echo, server), connect(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 20000\r\n\r\n" + b"a" * 15_000)
        assert told(connection)[0] == 413
        assert echo.cut.wait(30)


def test_a_body_after_the_answer_is_bounded_too():
    with served() as (_, server), connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: here\r\ncontent-length: 1000000000\r\n\r\n")
        sent = 0
        try:
            while sent < 100 << 20:
                sent += connection.send(b"a" * 1000)
        except OSError:
            pass
        assert sent < 100 << 20


def test_a_request_that_comes_whole_is_no_long_head():
    with served() as (_, server):
        assert httpx.post(server.address, content=b"a" * 9000).text == "a" * 9000


def test_what_all_bodies_hold_together_is_bounded_and_given_back():
    with served() as (echo, server):
        waiting = [connect(server) for _ in range(2)]
        for connection in waiting:
            connection.sendall(
                b"POST /later HTTP/1.1\r\nhost: here\r\ncontent-length: 10000\r\n\r\n" + b"a" * 10_000
            )
            assert echo.came.acquire(timeout=30)
        refused = httpx.post(server.address, content=b"a" * 9000)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert httpx.post(server.address, content=b"a" * 4000).status_code == 200
        echo.going_on.set()
        for connection in waiting:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.close()
        assert httpx.post(server.address, content=b"a" * 9000).status_code == 200


def test_one_client_that_holds_all_connections_gives_way_to_others():
    with served() as (_, server):
        slow = [connect(server) for _ in range(30)]
        for connection in slow:
            with suppress(OSError):
                connection.sendall(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n\r\n")
        for _ in range(5):
            assert httpx.post(server.address, content=b"good").text == "good"
        for connection in slow:
            connection.close()


def test_connections_that_wait_for_an_answer_are_not_cut_for_new_ones():
    with served() as (echo, server):
        waiting = [connect(server) for _ in range(8)]
        for connection in waiting:
            connection.sendall(b"POST /later HTTP/1.1\r\nhost: here\r\ncontent-length: 1\r\n\r\na")
            assert echo.came.acquire(timeout=30)
        with connect(server) as late:
            status, words = told(late)
        assert (status, "8 connections" in words["error"]) == (503, True)
        echo.going_on.set()
        for connection in waiting:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.close()


def test_a_connection_may_be_idle_for_so_long():
    with served(ServerLimits(idle=0.1)) as (_, server), connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        found = b""
        while part := connection.recv(4096):
            found += part
        assert found.startswith(b"HTTP/1.1 200")


def test_stopping_answers_what_is_under_way():
    echo = Echo()
    server = PredictionServer(echo.asgi, "127.0.0.1", 0)
    ready = threading.Event()
    running = threading.Thread(target=server.run, args=(ready.set,))
    running.start()
    assert ready.wait(30)
    with connect(server) as connection, connect(server) as idle:
        connection.sendall(b"POST /later HTTP/1.1\r\nhost: here\r\ncontent-length: 1\r\n\r\na")
        assert echo.came.acquire(timeout=30)
        server._server.stop(60)
        assert idle.recv(10) == b""
        echo.going_on.set()
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    running.join(60)
    assert not running.is_alive()
