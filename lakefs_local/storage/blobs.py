"""Blob files: the bytes of objects, each in a file named by its SHA-256.

A file stands under its name only complete and on disk: it is written under `incoming/`, fsynced, renamed, and its
folder fsynced, all before any row names it. Of many at once the file system is synced instead, once before and once
after the names. After a crash `incoming/` holds only what nobody was promised.
"""

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lakefs_local.data_folder import FileSystemSync, sync_folder


class Stored(NamedTuple):
    """A blob on disk: SHA-256 (32 bytes), MD5 (hex), size in bytes."""

    digest: bytes
    md5: str
    size: int


class Blobs:
    """The blob files under one folder."""

    def __init__(self, folder: Path):
        self.folder = folder / "blobs"
        self._incoming = folder / "incoming"
        self._pinned: Counter[bytes] = Counter()
        self._watchers: list[set[bytes]] = []
        self._lock = threading.Lock()
        self._serial = 0

    def path(self, digest: bytes) -> str:
        """Where a blob lies (whether or not it exists)."""
        name = digest.hex()
        return f"{self.folder}/{name[:2]}/{name[2:]}"

    def receive(self) -> "Incoming":
        """Start writing a blob whose digest is not known yet."""
        return Incoming(self, self.new_incoming())

    def new_incoming(self) -> Path:
        """Where the next blob may be written until it has its name."""
        with self._lock:
            self._serial += 1
            return self._incoming / f"{os.getpid()}-{self._serial}"

    @contextmanager
    def receive_many(self) -> Iterator["ManyIncoming"]:
        """Start writing many small blobs; those that are stored stay pinned until the context ends."""
        many = ManyIncoming(self, self._incoming)
        try:
            yield many
        finally:
            many.close()

    def pin(self, digest: bytes) -> None:
        """Keep a blob from being collected, until it is unpinned as often, while a row that names it is on its way."""
        with self._lock:
            self._pinned[digest] += 1
            for watcher in self._watchers:
                watcher.add(digest)

    def unpin(self, digest: bytes) -> None:
        """See `pin`."""
        with self._lock:
            self._pinned[digest] -= 1
            if self._pinned[digest] <= 0:
                del self._pinned[digest]

    @contextmanager
    def watched(self) -> Iterator[set[bytes]]:
        """The blobs that are pinned now or later, while the context lasts."""
        with self._lock:
            seen = set(self._pinned)
            self._watchers.append(seen)
        try:
            yield seen
        finally:
            with self._lock:
                self._watchers.remove(seen)

    def remove_unless_pinned(self, digest: bytes) -> int | None:
        """Delete a blob file that no row names, and say its size; None if an upload in flight needs it."""
        with self._lock:
            if digest in self._pinned:
                return None
            path = Path(self.path(digest))
            size = path.stat().st_size
            path.unlink()
            return size

    def all(self) -> Iterator[tuple[bytes, int]]:
        """Every stored blob as (digest, size in bytes)."""
        for folder in sorted(os.scandir(self.folder), key=lambda item: item.name):
            for item in os.scandir(folder.path):
                try:
                    digest = bytes.fromhex(folder.name + item.name)
                except ValueError:
                    continue
                yield digest, item.stat().st_size

    def prepare(self) -> None:
        """Make the folders, and remove what an earlier process left unfinished. For the folder's writer only."""
        self._incoming.mkdir(exist_ok=True)
        for left_over in self._incoming.iterdir():
            left_over.unlink()
        if not self.folder.is_dir():
            self.folder.mkdir()
        if not (self.folder / "ff").is_dir():
            for number in range(256):
                (self.folder / f"{number:02x}").mkdir(exist_ok=True)
            sync_folder(self.folder)
            sync_folder(self.folder.parent)


class Incoming:
    """A blob being written. Use as a context manager: what is not stored by the end is removed."""

    def __init__(self, blobs: Blobs, path: Path):
        self._blobs, self._path = blobs, path
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._pinned: bytes | None = None
        self._file = -1

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._path.unlink(missing_ok=True)
        if self._pinned is not None:
            self._blobs.unpin(self._pinned)

    def write(self, data: bytes) -> None:
        """Append bytes. Raises OSError (disk full)."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._md5.update(data)
        self._sha256.update(data)
        self._size += len(data)
        _write_all(self._file, data)

    def store(self) -> Stored:
        """Make the blob durable under its digest; it stays pinned until the context ends. Raises OSError."""
        if self._file < 0:
            self.write(b"")
        digest = self._sha256.digest()
        self._blobs.pin(digest)
        self._pinned = digest
        target = Path(self._blobs.path(digest))
        if _size(target) != self._size:
            os.fsync(self._file)
            self._path.rename(target)
        else:
            self._path.unlink()
        os.close(self._file)
        self._file = -1
        # Also for a file that was there: the upload that made it may not have synced its folder yet.
        sync_folder(target.parent)
        return Stored(digest, self._md5.hexdigest(), self._size)


class ManyIncoming:
    """Many small blobs that are made durable together; see `Blobs.receive_many`."""

    def __init__(self, blobs: Blobs, folder: Path):
        self._blobs, self._folder = blobs, folder
        self._pinned: list[bytes] = []

    def store(self, contents: Sequence[bytes | memoryview]) -> list[Stored]:
        """Make the blobs durable, each under its digest. Raises OSError."""
        sync = FileSystemSync.of(self._folder)
        if sync is None:
            return [self._store_alone(content) for content in contents]
        stored = [_described(content) for content in contents]
        for each in stored:
            self._blobs.pin(each.digest)
            self._pinned.append(each.digest)
        waiting: dict[Path, Path] = {}
        with sync:
            try:
                for content, each in zip(contents, stored, strict=True):
                    target = Path(self._blobs.path(each.digest))
                    if target not in waiting and _size(target) != each.size:
                        waiting[target] = self._write(content)
                sync.wait()
                for target in list(waiting):
                    waiting[target].rename(target)
                    del waiting[target]
                # Also for files that were there: the upload that made them may not have synced their folders yet.
                sync.wait()
            finally:
                for left_over in waiting.values():
                    left_over.unlink(missing_ok=True)
        return stored

    def close(self) -> None:
        """Let the blobs be collected, once nothing names them."""
        for digest in self._pinned:
            self._blobs.unpin(digest)

    def _write(self, content: bytes | memoryview) -> Path:
        path = self._blobs.new_incoming()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(handle, content)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(handle)
        return path

    def _store_alone(self, content: bytes | memoryview) -> Stored:
        with self._blobs.receive() as incoming:
            incoming.write(bytes(content))
            stored = incoming.store()
            self._blobs.pin(stored.digest)
            self._pinned.append(stored.digest)
        return stored


def _described(content: bytes | memoryview) -> Stored:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Stored(hashlib.sha256(content).digest(), md5, len(content))


def _write_all(handle: int, content: bytes | memoryview) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def checksum(path: Path) -> bytes:
    """The SHA-256 of a file. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
