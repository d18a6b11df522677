"""Bytes over lines that die, servers that know no Range, and disks that are full: nothing is fetched twice."""

import errno
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge.fetch import CHUNK, PIECE, Client, NoSpace, Unreachable, WrongDigest
from edge.files import Files, System
from tests.devices.small_fleet import Device, Fleet, frame, update
from visionops.edge_repository import EdgeFiles
from visionops.serving.prediction_server import in_thread

CONTENT = os.urandom(385_521)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
Behaviour = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(behaviour: Behaviour) -> Iterator[str]:
    """A server that answers each GET so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour(self)

        def log_message(self, *_: object) -> None: ...

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        made.server_close()


def start_of(handler: BaseHTTPRequestHandler) -> int:
    asked = handler.headers.get("Range", "bytes=0-")
    return int(asked.removeprefix("bytes=").rstrip("-"))


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, start: int, sent: int) -> None:
    """Say that all of a body comes, and send so many bytes of it."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    if status == 206:
        handler.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(CONTENT)}")
    handler.end_headers()
    handler.wfile.write(body[:sent])
    handler.close_connection = True


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "state").mkdir()
    return Files(tmp_path / "state")


def fetch(client: Client, files: Files, url: str) -> None:
    client.blob(files, f"{url}/blob", SHA256, len(CONTENT))


def test_connections_that_die_after_20_kb_fetch_no_byte_twice(files: Files) -> None:
    def dies(handler: BaseHTTPRequestHandler) -> None:
        start = start_of(handler)
        answer(handler, 206 if start else 200, CONTENT[start:], start, 20_000)

    client = Client()
    with server(dies) as url:
        fetch(client, files, url)
    assert client.bytes == len(CONTENT)
    assert files.read(f"blobs/{SHA256}") == CONTENT


def test_a_server_without_range_is_read_from_its_beginning(files: Files) -> None:
    asked: list[int] = []

    def knows_no_range(handler: BaseHTTPRequestHandler) -> None:
        asked.append(start_of(handler))
        answer(handler, 200, CONTENT, 0, 100_000 if len(asked) == 1 else len(CONTENT))

    with server(knows_no_range) as url:
        fetch(Client(), files, url)
    assert asked[0] == 0 and asked[1] >= 3 * PIECE
    assert files.read(f"blobs/{SHA256}") == CONTENT


def test_another_range_than_was_asked_for_is_not_appended(files: Files) -> None:
    def confused(handler: BaseHTTPRequestHandler) -> None:
        start = start_of(handler)
        answer(handler, 206 if start else 200, CONTENT[start:], 7 if start else 0, CHUNK)

    with server(confused) as url, pytest.raises(Unreachable, match="another range"):
        fetch(Client(), files, url)
    with server(lambda handler: answer(handler, 200, CONTENT, 0, len(CONTENT))) as url:
        fetch(Client(), files, url)
    assert files.read(f"blobs/{SHA256}") == CONTENT


def test_a_longer_body_than_was_signed_is_cut_and_held_to_its_digest(files: Files) -> None:
    with server(lambda handler: answer(handler, 200, CONTENT + b"more", 0, len(CONTENT) + 4)) as url:
        fetch(Client(), files, url)
    assert files.read(f"blobs/{SHA256}") == CONTENT


def test_another_file_leaves_nothing_behind(files: Files) -> None:
    zeros = bytes(len(CONTENT))
    with (
        server(lambda handler: answer(handler, 200, zeros, 0, len(zeros))) as url,
        pytest.raises(WrongDigest),
    ):
        fetch(Client(), files, url)
    assert files.names("incoming") == files.names("blobs") == []


@pytest.mark.parametrize("status", [404, 403, 500, 503, 416])
def test_what_is_no_answer_is_unreachable_and_keeps_what_arrived(files: Files, status: int) -> None:
    files.append(f"incoming/{SHA256}", CONTENT[:PIECE])
    with server(lambda handler: answer(handler, status, b"no", 0, 2)) as url, pytest.raises(Unreachable):
        fetch(Client(), files, url)
    assert files.size(f"incoming/{SHA256}") == (PIECE if status != 416 else None)


def test_a_bandwidth_limit_is_held(files: Files) -> None:
    slept: list[float] = []
    client = Client(max_kbps=800, sleep=slept.append)
    with server(lambda handler: answer(handler, 200, CONTENT, 0, len(CONTENT))) as url:
        fetch(client, files, url)
    assert sum(slept) == pytest.approx(len(CONTENT) * 8 / 800_000, rel=0.1)


class Full(System):
    """A disk that takes so many bytes more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def append(self, path: Path, content: bytes) -> None:
        if len(content) > self.room:
            super().append(path, content[: self.room])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        self.room -= len(content)
        super().append(path, content)

    def remove(self, path: Path) -> None:
        self.room += path.stat().st_size
        super().remove(path)


def test_a_full_disk_refuses_the_update_frees_its_room_and_serves_on(fleet: Fleet, device: Device) -> None:
    fleet.publish(fleet.bundle(2, padding=3 * CHUNK))
    device.system = Full(2 * CHUNK)
    agent = device.start()
    assert update(agent)["model"]["release"] == 1
    assert [why for _, why, _ in agent.state.quarantine] == ["no_space"]
    assert agent._files.names("incoming") == []
    # What may have been a moment's trouble is tried again a day later.
    device.system = System()
    assert update(device.start())["model"]["release"] == 1
    fleet.clock.pass_(hours=25)
    assert update(device.start())["model"]["release"] == 2


class NoRoom(System):
    """A disk that takes nothing while it is full."""

    full = True

    def write(self, path: Path, content: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        super().write(path, content)


@pytest.mark.parametrize("on_trial", [False, True])
def test_a_disk_that_is_full_as_it_starts_keeps_no_model_from_answering(
    fleet: Fleet, device: Device, on_trial: bool
) -> None:
    update(device.start())
    if on_trial:
        fleet.publish(fleet.bundle(2))
        agent = device.start()
        agent.look()
        agent.settle()
        assert agent.state.phase == "TRIAL"
    device.system = disk = NoRoom()
    agent = device.start()
    assert agent.answer(frame())["model"]["release"] == 1
    assert str(agent.status()["problem"]).startswith("room: the disk of ")
    agent.attempt("repository", agent.look)
    assert agent.answer(frame())["model"]["release"] == 1
    disk.full = False
    release = update(agent)["model"]["release"]
    assert release == (2 if on_trial else 1) and agent.status()["problem"] is None
    assert device.start().state.boots > 2


def test_a_bundle_larger_than_the_disk_is_refused_before_a_byte_is_fetched(
    fleet: Fleet, device: Device
) -> None:
    client = Client()
    with pytest.raises(NoSpace, match="do not fit"):
        client.blob(Files(device.folder / "state"), fleet.url, "0" * 64, 1 << 50)
    assert client.requests == 0


def test_over_http_a_poll_without_news_takes_two_requests(fleet: Fleet, tmp_path: Path) -> None:
    with in_thread(EdgeFiles(tmp_path / "repository")) as made:  # type: ignore[arg-type]
        device = fleet.device(url=f"{made.address}/shapes")
        agent = device.start()
        assert update(agent)["model"]["release"] == 1
        before = device.client.requests
        agent.look()
        assert device.client.requests == before + 2
        fleet.publish(fleet.bundle(2))
        assert update(agent)["model"]["release"] == 2
    with pytest.raises(Unreachable, match="cannot be reached"):
        agent.look()
    assert agent.answer(frame())["model"]["release"] == 2


def test_what_is_served_is_what_devices_may_have(tmp_path: Path) -> None:
    import httpx

    fleet = Fleet(tmp_path)
    first = fleet.bundle(1)
    fleet.publish(first)
    (tmp_path / "repository" / "shapes" / "staged" / "manifest.json").write_text("{}")
    sha256, content = first.manifest["files"]["model.onnx"]["sha256"], first.blobs["model.onnx"]
    with in_thread(EdgeFiles(tmp_path / "repository")) as made, httpx.Client(base_url=made.address) as http:  # type: ignore[arg-type]
        url = f"/shapes/blobs/{sha256}"
        assert http.get(url).content == content
        assert http.head(url).headers["content-length"] == str(len(content))
        part = http.get(url, headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, content[5:10])
        assert part.headers["content-range"] == f"bytes 5-9/{len(content)}"
        assert http.get(url, headers={"Range": "bytes=-3"}).content == content[-3:]
        assert http.get(url, headers={"Range": f"bytes={len(content)}-"}).status_code == 416
        assert http.get("/shapes/metadata/timestamp.json").headers["cache-control"] == "no-cache"
        assert "immutable" in http.get("/shapes/metadata/1.root.json").headers["cache-control"]
        for path in (
            "/",
            "/shapes",
            "/shapes/staged/manifest.json",
            "/shapes/blobs/../staged/manifest.json",
            "/shapes/metadata/%2e%2e/staged/manifest.json",
            "/../keys/root.pem",
            "/shapes/metadata",
            "/shapes/metadata/2.root.json",
        ):
            assert http.get(path).status_code == 404, path
        assert http.put(url, content=b"").status_code == 405


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Send a little more each time, then end the connection as a rebooting router does."""
    start = start_of(handler)
    answer(handler, 206 if start else 200, CONTENT[start:], start, 3 * PIECE)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def trickling(handler: BaseHTTPRequestHandler) -> None:
    """Send in crumbs of odd sizes, with pauses."""
    start = start_of(handler)
    answer(handler, 206 if start else 200, CONTENT[start:], start, 0)
    for at in range(start, len(CONTENT), 7919):
        handler.wfile.write(CONTENT[at : at + 7919])
        if at % 5 == 0:
            time.sleep(0.01)


def silent(handler: BaseHTTPRequestHandler) -> None:
    """Half open: the line is there, and nothing comes."""
    answer(handler, 200, CONTENT, 0, PIECE)
    time.sleep(1)


@pytest.mark.parametrize("behaviour", [reset, trickling], ids=["reset", "trickling"])
def test_bad_lines_bring_the_file_all_the_same(files: Files, behaviour: Behaviour) -> None:
    client = Client()
    with server(behaviour) as url:
        for _ in range(100):
            try:
                fetch(client, files, url)
            except Unreachable:
                continue
            break
    assert files.read(f"blobs/{SHA256}") == CONTENT
    assert client.bytes <= len(CONTENT) + CHUNK


def test_a_line_that_falls_silent_is_left_and_what_came_is_kept(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.fetch._READ", 0.3)
    with server(silent) as url, pytest.raises(Unreachable):
        fetch(Client(), files, url)
    assert (files.size(f"incoming/{SHA256}") or 0) >= PIECE


def test_a_repository_that_moved_is_followed(files: Files) -> None:
    with server(lambda handler: answer(handler, 200, CONTENT, 0, len(CONTENT))) as there:

        def moved(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", f"{there}{handler.path}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with server(moved) as url:
            fetch(Client(), files, url)
    assert files.read(f"blobs/{SHA256}") == CONTENT
