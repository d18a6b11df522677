"""Bytes from a repository: over HTTP with Range, or a folder; what arrived before a line died is kept."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from edge import EdgeError, __version__
from edge.files import Files

# The most that is fetched again after a kill or a power cut.
CHUNK = 64 * 1024
# What is made durable at a time: after a power cut one may be lost, and another hold what was never written.
PIECE = CHUNK // 2
# Kept free: the state file and the outbox must always find room.
RESERVE = 1 << 20
_CONNECT, _READ = 10.0, 30.0


class Unreachable(EdgeError, OSError):
    """The repository does not answer, or not with what was asked."""


class NoSpace(EdgeError, OSError):
    """The disk has no room for a file."""


class Paused(Exception):
    """Something else is due; what arrived is kept."""


class WrongDigest(EdgeError, ValueError):
    """A file that was fetched whole is not the one that was signed."""


class Client(FetcherInterface):
    """Fetches from `http(s)://` and `file://`. Also what python-tuf fetches its metadata with."""

    def __init__(
        self,
        *,
        token: str | None = None,
        ca: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        proxy: str | None = None,
        max_kbps: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.max_kbps = max_kbps
        self.requests = 0
        self.bytes = 0
        self._proxy, self._sleep = proxy, sleep
        self._tls = {"ca_certs": ca, "cert_file": certificate, "key_file": key}
        self._headers = {"User-Agent": f"visionops-edge/{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._manager: Any = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        with self._opened(url, 0) as (status, _, body):
            if status != 200:
                raise DownloadHTTPError(f"{url} answers {status}", status)
            yield from body

    def blob(
        self, files: Files, url: str, sha256: str, size: int, go_on: Callable[[], bool] = lambda: True
    ) -> None:
        """Fetch a file into `blobs/<sha256>`, going on where an earlier attempt ended.

        Raises `NoSpace` before a byte is fetched where the disk is too small, `WrongDigest` (nothing is kept of it),
        `Unreachable` and, after a piece, where `go_on` says no, `Paused` (what arrived is kept).
        """
        part = f"incoming/{sha256}"
        have = files.size(part) or 0
        if have > size:
            files.remove(part)
            have = 0
        if size - have + RESERVE > files.room():
            files.remove(part)
            raise NoSpace(f"{size:,} bytes do not fit on the disk, {files.room():,} are free")
        try:
            while have < size:
                before = have
                try:
                    have = self._more(files, part, url, have, size, go_on)
                except Unreachable:
                    have = files.size(part) or 0
                    if have <= before:
                        raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                files.remove(part)
                raise NoSpace(f"the disk is full: {size:,} bytes were to be fetched") from error
            raise
        if size == 0:
            files.write(part, b"")
        if files.sha256(part) != sha256:
            files.remove(part)
            raise WrongDigest(f"{url} is not the file that was signed")
        files.move(part, f"blobs/{sha256}")

    def send(self, url: str, content: bytes, method: str = "PUT", kind: str = "application/gzip") -> None:
        """Put a file, or post an answer. Raises `Unreachable`."""
        import urllib3

        self.requests += 1
        try:
            answer = self._pool().request(
                method,
                url,
                body=content,
                headers={**self._headers, "Content-Type": kind},
                timeout=urllib3.Timeout(connect=_CONNECT, read=_READ),
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{url} cannot be reached ({type(error).__name__})") from error
        if answer.status >= 300:
            raise Unreachable(f"{url} answers {answer.status}")

    def _more(
        self, files: Files, part: str, url: str, have: int, size: int, go_on: Callable[[], bool]
    ) -> int:
        """Append what one connection gives, in chunks that are durable one by one."""
        waiting = bytearray()

        def keep() -> None:
            nonlocal have
            if waiting:
                files.append(part, bytes(waiting))
                have += len(waiting)
                waiting.clear()

        with self._opened(url, have) as (status, skip, body):
            if status == 416:
                files.remove(part)
                raise Unreachable(f"{url} is shorter than what was signed")
            if status not in (200, 206):
                raise Unreachable(f"{url} answers {status}")
            try:
                for piece in body:
                    dropped = min(skip, len(piece))
                    skip -= dropped
                    piece = piece[dropped : dropped + size - have - len(waiting)]
                    # No more than that is on its way to the disk at any time.
                    while len(waiting) + len(piece) >= PIECE:
                        taken = PIECE - len(waiting)
                        waiting += piece[:taken]
                        piece = piece[taken:]
                        keep()
                        if have < size and not go_on():
                            raise Paused
                    waiting += piece
                    if have + len(waiting) >= size:
                        break
            except Unreachable:
                keep()
                raise
            keep()
        if have < size:
            raise Unreachable(f"{url} ended after {have:,} of {size:,} bytes")
        return have

    @contextmanager
    def _opened(self, url: str, start: int) -> Iterator[tuple[int, int, Iterator[bytes]]]:
        """Status, how many bytes of the body come before `start`, and the body in pieces."""
        self.requests += 1
        if url.startswith("file:"):
            path = Path(unquote(urlsplit(url).path))
            try:
                stream = path.open("rb")
            except FileNotFoundError:
                # A repository that is not there at all is no answer that there is nothing new.
                if not any((parent / "timestamp.json").exists() for parent in path.parents[:1]) and (
                    path.name.endswith("root.json")
                ):
                    raise Unreachable(f"{path.parent} is no repository") from None
                yield 404, 0, iter(())
                return
            with stream:
                stream.seek(start)
                yield (206 if start else 200), 0, self._limited(iter(lambda: stream.read(PIECE), b""))
            return
        import urllib3

        headers = dict(self._headers)
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            answer = self._pool().request(
                "GET",
                url,
                headers=headers,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=_CONNECT, read=_READ),
                # What did not arrive is asked for again by whoever asked; a repository may have moved.
                retries=urllib3.Retry(3, connect=0, read=0, status=0, other=0, raise_on_redirect=False),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"{_host(url)} cannot be reached ({_said(error)})") from error
        try:
            from_start = answer.status == 206 and _starts_at(answer.headers) == start
            skip = 0 if from_start or answer.status != 200 else start
            if answer.status == 206 and not from_start:
                raise Unreachable(f"{url} answers another range than was asked for")
            yield answer.status, skip, self._limited(_pieces(answer, url))
        finally:
            # A body that was not read to its end must not be the next answer's beginning.
            answer.close()

    def _limited(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.bytes += len(piece)
            yield piece
            if self.max_kbps:
                self._sleep(len(piece) / (self.max_kbps * 125))

    def _pool(self) -> Any:
        if self._manager is None:
            import urllib3

            tls: Mapping[str, Any] = {name: value for name, value in self._tls.items() if value}
            if self._proxy:
                self._manager = urllib3.ProxyManager(self._proxy, **tls)
            else:
                self._manager = urllib3.PoolManager(**tls)
        return self._manager


def _pieces(answer: Any, url: str) -> Iterator[bytes]:
    import urllib3

    try:
        # `read` would lose what came before a connection died; `read1` gives it as it comes.
        while piece := answer.read1(PIECE):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unreachable(f"the connection to {_host(url)} died ({_said(error)})") from error


def _starts_at(headers: Mapping[str, str]) -> int | None:
    unit, _, span = headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else None


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def _said(error: BaseException) -> str:
    """What the system said, beneath what libraries made of it."""
    beneath: BaseException | None = error
    while beneath is not None:
        if isinstance(beneath, OSError) and beneath.strerror:
            return beneath.strerror
        beneath = beneath.__cause__ or beneath.__context__
    return type(error).__name__
