"""Walking import sources: every file with its destination, in order of destination, read to know its checksum."""

import hashlib
import heapq
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lakefs_local.catalog.names import MAX_PATH_BYTES
from lakefs_local.storage import records
from lakefs_local.storage.records import Entry

SCHEME = "local://"
_BATCH = 256
# More of them spend more time taking turns at the interpreter than they save in waiting for a disk.
_READERS = 2
_CHUNK = 1 << 20


class SourceError(Exception):
    """A source cannot be read, or must not be."""


@dataclass(frozen=True)
class Source:
    """A file, or a folder whose files go under `destination`."""

    path: str
    destination: str
    is_folder: bool

    @property
    def target(self) -> bytes:
        """The destination as a path, or as a prefix that ends in a slash (empty: everything)."""
        if self.is_folder and self.destination and not self.destination.endswith("/"):
            return self.destination.encode() + b"/"
        return self.destination.encode()


class Found(NamedTuple):
    """A file and where it goes; of two with one destination the later source wins (`order`)."""

    key: bytes
    order: int
    path: str


def entries(sources: list[Source], allowed: Callable[[Path], bool]) -> Iterator[tuple[bytes, bytes]]:
    """Destinations and their records, sorted. Raises SourceError."""
    with ThreadPoolExecutor(_READERS, thread_name_prefix="import") as readers:
        files = _distinct(heapq.merge(*(_files(source, -at, allowed) for at, source in enumerate(sources))))
        batches = iter(lambda: list(islice(files, _BATCH)), [])
        running = [readers.submit(_read_all, batch, allowed) for batch in islice(batches, _READERS + 1)]
        while running:
            done = running.pop(0).result()
            following = next(batches, None)
            if following:
                running.append(readers.submit(_read_all, following, allowed))
            yield from done


def _distinct(files: Iterator[Found]) -> Iterator[Found]:
    previous = None
    for found in files:
        if found.key != previous:
            yield found
        previous = found.key


def _files(source: Source, order: int, allowed: Callable[[Path], bool]) -> Iterator[Found]:
    location = source.path.removeprefix(SCHEME)
    root = Path(location)
    if not source.path.startswith(SCHEME) or not root.is_absolute() or not allowed(root):
        raise SourceError(f"creating object-store walker on path {source.path}: forbidden")
    if not root.exists():
        raise SourceError(f"lstat {location.rstrip('/')}: no such file or directory")
    if not source.is_folder:
        yield Found(source.target, order, str(root))
    elif root.is_dir():
        yield from _walk(str(root), source.target, order)
    else:
        raise SourceError(f"{location} is a file: import it as an object")


def _walk(folder: str, prefix: bytes, order: int) -> Iterator[Found]:
    """Files below a folder, sorted by their whole path: a folder sorts as its name with a slash."""
    with os.scandir(folder) as found:
        slashed = (
            (os.fsencode(item.name) + b"/" * item.is_dir(follow_symlinks=False), item.path) for item in found
        )
        items = sorted(slashed)
    for name, path in items:
        if name.endswith(b"/"):
            yield from _walk(path, prefix + name, order)
        else:
            yield Found(prefix + name, order, path)


def _read_all(batch: list[Found], allowed: Callable[[Path], bool]) -> list[tuple[bytes, bytes]]:
    return [(found.key, _read(found, allowed)) for found in batch]


def _read(found: Found, allowed: Callable[[Path], bool]) -> bytes:
    key, _, path = found
    try:
        key.decode()
        path.encode()
    except UnicodeError:
        raise SourceError(f"the name of {os.fsencode(path)!r} is not UTF-8") from None
    if len(key) > MAX_PATH_BYTES:
        raise SourceError(f"the destination of {path} is above maximum length ({MAX_PATH_BYTES})")
    try:
        # Not following links keeps the common case to one system call; a link is checked and opened as its target.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        target = Path(path).resolve()
        if not Path(path).is_symlink() or not target.is_file() or not allowed(target):
            raise SourceError(f"cannot read {path}: {problem.strerror}") from None
        return _read(Found(key, 0, str(target)), allowed)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path} is not a regular file")
        digest = hashlib.md5(usedforsecurity=False)
        while chunk := os.read(file, _CHUNK if status.st_size > _CHUNK else status.st_size + 1):
            digest.update(chunk)
    finally:
        os.close(file)
    return records.pack(
        Entry(digest.hexdigest(), status.st_size, max(0, int(status.st_mtime)), location=path)
    )
