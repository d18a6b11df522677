"""Where images come from, and where answers go: folders, HTTP on this machine, or a program's own functions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, time
from typing import Any, Protocol

from edge.fetch import Client
from edge.files import Files
from edge.runner import BadImage

ANSWERED = "answered.tsv"
# Names of files that their writer has not finished.
_UNFINISHED = (".tmp", ".part", ".new")
MOST_IMAGE_BYTES = 64 << 20
# Names of files that are gone, beyond those that are there once more: a folder that is away for a while, such as a
# mount, must not be answered anew, and a camera that runs for years must not fill the memory.
MOST_GONE = 10_000
# Between two writes of what was answered; after a kill so much is answered again.
WRITTEN_EVERY = 1.0
CLIENT_SECONDS = 60.0
# An image that cannot be read and was written to so lately may not be finished: it is looked at again.
UNFINISHED_SECONDS = 10.0

Answer = Callable[[bytes], "dict[str, Any]"]
Sink = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Frame:
    """One image as it came; `key` tells it from another of the same name. `refused` says why it is not looked at;
    one that `may_grow` waits where it cannot be read."""

    name: str
    key: str
    data: bytes
    refused: str | None = None
    may_grow: bool = False


class Source(Protocol):
    """Gives what is there to be answered."""

    def frames(self) -> Iterator[Frame]:
        """The images that wait now, oldest first."""
        ...

    def done(self, frame: Frame) -> None:
        """An image was answered, or cannot be."""
        ...

    def settled(self) -> None:
        """All frames of a round are done."""
        ...


class FolderSource:
    """A folder that a camera writes to. A file is taken when two looks find it alike; what cannot be read then may be
    half of what a slow line brings, and is told once nothing was written to it for `UNFINISHED_SECONDS`.

    `then`: `keep` leaves the files and answers each once, `remove` removes what was answered. `first` is done before it
    is written down what was answered.
    """

    def __init__(
        self, folder: Path, files: Files, then: str = "keep", first: Callable[[], None] = lambda: None
    ) -> None:
        if then not in ("keep", "remove"):
            raise ValueError(f"`then` of a folder is keep or remove, not {then!r}")
        self._folder, self._files, self._remove = folder, files, then == "remove"
        self._first = first
        self._seen: dict[str, str] = {}
        self._answered: dict[str, str] = {}
        self._new: list[str] = []
        self._written = 0.0
        # How long the last look into the folder took.
        self.look_seconds = 0.0
        if not self._remove:
            self._recall()

    def frames(self) -> Iterator[Frame]:
        started = monotonic()
        there = self._looks()
        self.look_seconds = monotonic() - started
        if len(self._answered) > 2 * len(there) + MOST_GONE:
            self._forget({path.name for path, _ in there})
        found = {path: key for path, key in there if self._answered.get(path.name) != key}
        alike = [path for path, key in found.items() if self._seen.get(path.name) == key]
        self._seen = {path.name: key for path, key in found.items()}
        for path in alike:
            with contextlib.suppress(OSError):
                yield _frame(path, found[path])

    def done(self, frame: Frame) -> None:
        self._answered[frame.name] = frame.key
        if self._remove:
            # One that cannot be removed keeps no other from being answered.
            with contextlib.suppress(OSError):
                self._clear(frame.name)
            return
        self._new.append(_line(frame.key, frame.name))
        if monotonic() - self._written >= WRITTEN_EVERY:
            self.settled()

    def settled(self) -> None:
        """Raises OSError where what was answered can be neither removed nor written down."""
        if self._remove:
            for name in list(self._answered):
                self._clear(name)
        elif self._new:
            self._first()
            self._files.append(ANSWERED, "".join(self._new).encode(errors="surrogateescape"))
            self._new.clear()
            self._written = monotonic()

    def _clear(self, name: str) -> None:
        """Remove what was answered, unless the camera put another picture in its place."""
        path = self._folder / name
        with contextlib.suppress(FileNotFoundError):
            if _key(path.stat()) == self._answered[name]:
                path.unlink()
        del self._answered[name]

    def _looks(self) -> list[tuple[Path, str]]:
        if not self._folder.is_dir():
            raise FileNotFoundError(
                f"{self._folder}, the `source` of device.json, is no folder: make it, or name the camera's"
            )
        found = []
        for path in self._folder.iterdir():
            if path.name.startswith(".") or path.name.endswith(_UNFINISHED):
                continue
            with contextlib.suppress(OSError):
                described = path.stat()
                if path.is_file() and described.st_size:
                    found.append((described.st_mtime_ns, path, _key(described)))
        return [(path, key) for _, path, key in sorted(found)]

    def _recall(self) -> None:
        """What an earlier process answered."""
        content = self._files.read(ANSWERED) or b""
        for line in content.decode(errors="surrogateescape").split("\n")[:-1]:
            key, _, written = line.partition("\t")
            self._answered[written.replace("%0A", "\n").replace("%25", "%")] = key

    def _forget(self, there: set[str]) -> None:
        """Of what was answered keep what is still there."""
        self._answered = {name: key for name, key in self._answered.items() if name in there}
        self._new.clear()
        kept = "".join(_line(key, name) for name, key in self._answered.items())
        self._files.write(ANSWERED, kept.encode(errors="surrogateescape"))


def _key(found: os.stat_result) -> str:
    """What tells a picture from another of the same name."""
    return f"{found.st_size}-{found.st_mtime_ns}"


def _line(key: str, name: str) -> str:
    """What was answered, in one line whatever the name of a file is."""
    written = name.replace("%", "%25").replace("\n", "%0A")
    return f"{key}\t{written}\n"


def _frame(path: Path, key: str) -> Frame:
    """A file of a folder, no more of it than an image may have. Raises OSError."""
    with path.open("rb") as stream:
        age = time() - os.fstat(stream.fileno()).st_mtime
        data = stream.read(MOST_IMAGE_BYTES + 1)
    if len(data) > MOST_IMAGE_BYTES:
        return Frame(path.name, key, b"", f"the image has more than {MOST_IMAGE_BYTES >> 20} MiB")
    # A clock that is behind must not hold a picture for ever.
    return Frame(path.name, key, data, may_grow=0 <= age < UNFINISHED_SECONDS)


def answer_frame(answer: Answer, frame: Frame, at: str) -> dict[str, Any]:
    """What a sink is given of one image. Raises what `answer` raises but for an image that cannot be decoded."""
    if frame.refused is not None:
        return {"at": at, "name": frame.name, "error": frame.refused}
    told = {"at": at, "name": frame.name, "image_sha256": hashlib.sha256(frame.data).hexdigest()}
    try:
        return {**told, **answer(frame.data)}
    except BadImage as error:
        return {**told, "error": str(error)}


class LinesSink:
    """JSON lines in a file; at `max_mb` it becomes `<name>.1`, and the one before that is gone."""

    def __init__(self, file: Path, max_mb: float = 100) -> None:
        self._file, self._most = file, int(max_mb * 1_000_000)
        file.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, answer: Mapping[str, Any]) -> None:
        line = json.dumps(answer, ensure_ascii=False) + "\n"
        with contextlib.suppress(FileNotFoundError):
            if self._file.stat().st_size + len(line) > self._most:
                self._file.replace(self._file.with_name(f"{self._file.name}.1"))
        # A byte of a name that is no UTF-8 becomes what JSON escapes it to.
        with self._file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(line)


class HttpSink:
    """Posts each answer to an address. Raises `Unreachable`."""

    def __init__(self, client: Client, url: str) -> None:
        self._client, self._url = client, url

    def __call__(self, answer: Mapping[str, Any]) -> None:
        self._client.send(self._url, json.dumps(answer).encode(), "POST", "application/json")


@contextlib.contextmanager
def http_endpoint(address: str, answer: Answer, status: Callable[[], Mapping[str, Any]]) -> Iterator[str]:
    """Answer `POST /predict` and `GET /health` on `host:port`, and say where. Raises OSError."""
    host, _, port = address.rpartition(":")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Who says nothing for so long is gone.
        timeout = CLIENT_SECONDS

        def do_POST(self) -> None:
            stated = self.headers.get("Content-Length") or ""
            length = int(stated) if stated.isascii() and stated.isdigit() else 0
            if self.path != "/predict" or not 0 < length <= MOST_IMAGE_BYTES:
                self.close_connection = True
                self._say(404 if self.path != "/predict" else 400, {"error": "POST one image to /predict"})
                return
            image = self.rfile.read(length)
            if len(image) < length:
                self.close_connection = True
                return
            try:
                self._say(200, answer(image))
            except BadImage as error:
                self._say(400, {"error": str(error)})
            except Exception as error:
                self._say(503, {"error": str(error)})

        def do_GET(self) -> None:
            told = dict(status())
            healthy = self.path == "/health"
            self._say(200 if healthy else 404, told if healthy else {"error": "GET /health, POST /predict"})

        def log_message(self, *_: object) -> None: ...

        def _say(self, code: int, told: Mapping[str, Any]) -> None:
            content = json.dumps(told).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            # Who left in the middle is nobody's error.
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(request, client_address)

    try:
        server = Server((host or "127.0.0.1", int(port)), Handler)
    except (OSError, ValueError, OverflowError) as error:
        raise OSError(f"cannot listen on {address}: {getattr(error, 'strerror', None) or error}") from error
    thread = threading.Thread(target=server.serve_forever, name="endpoint", daemon=True)
    thread.start()
    try:
        yield f"http://{host or '127.0.0.1'}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
