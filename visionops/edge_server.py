"""What devices fetch, as static files over HTTP with Range: for desks and tests."""

import email.utils
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PART = 256 * 1024
# Of a project's folder only what is signed, or named by its digest: never what waits for approvers, never a key.
_SERVED = re.compile(r"/([A-Za-z0-9][A-Za-z0-9._-]*)/(blobs|metadata|targets)/([A-Za-z0-9._/-]+)")
_RANGE = re.compile(rb"bytes=(\d*)-(\d*)")


class EdgeFiles:
    """An ASGI application over the folder of all projects' repositories."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    async def __call__(self, scope: Scope, receive: object, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, [(b"allow", b"GET, HEAD")])
            return
        file = self._file(scope["path"])
        try:
            if file is None:
                raise FileNotFoundError
            with file.open("rb") as stream:
                size = stream.seek(0, 2)
                asked = next((value for name, value in scope["headers"] if name == b"range"), None)
                span = _span(asked, size)
                if span is None:
                    await _answer(send, 416, [(b"content-range", b"bytes */%d" % size)])
                    return
                first, last = span
                headers = _headers(file, last - first)
                if asked is not None:
                    headers.append((b"content-range", b"bytes %d-%d/%d" % (first, last - 1, size)))
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200 if asked is None else 206,
                        "headers": headers,
                    }
                )
                stream.seek(first)
                left = last - first if scope["method"] == "GET" else 0
                while left > 0:
                    part = stream.read(min(_PART, left))
                    left = left - len(part) if part else 0
                    await send({"type": "http.response.body", "body": part, "more_body": left > 0})
                if last == first or scope["method"] == "HEAD":
                    await send({"type": "http.response.body", "body": b""})
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            await _answer(send, 404, [])

    def _file(self, path: str) -> Path | None:
        if _SERVED.fullmatch(path) is None or ".." in path:
            return None
        return self._root / path[1:]


def _span(asked: bytes | None, size: int) -> tuple[int, int] | None:
    """First byte, and the one after the last; None where there is no such part."""
    if asked is None:
        return 0, size
    found = _RANGE.fullmatch(asked.strip())
    if found is None or found.groups() == (b"", b""):
        return None
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) and size else None
    start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end) if start < end else None


def _headers(file: Path, length: int) -> list[tuple[bytes, bytes]]:
    changing = file.name == "timestamp.json"
    return [
        (b"content-type", b"application/json" if file.suffix == ".json" else b"application/octet-stream"),
        (b"content-length", b"%d" % length),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"no-cache" if changing else b"public, max-age=31536000, immutable"),
        (b"last-modified", email.utils.formatdate(file.stat().st_mtime, usegmt=True).encode()),
    ]


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    body = b"" if status == 416 else b"%d\n" % status
    length = (b"content-length", b"%d" % len(body))
    # A root that is not there yet will be: nobody may keep that answer.
    kept = (b"cache-control", b"no-cache")
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length, kept]})
    await send({"type": "http.response.body", "body": body})


def repositories(root: Path) -> Iterator[str]:
    """The projects that devices can follow."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if (folder / "metadata" / "timestamp.json").is_file():
            yield folder.name
