"""Walking import sources: every file with its destination, in order of destination, read to know its checksum."""

import errno
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

from lakefs_local.catalog.conventions import MAX_PATH_BYTES
from lakefs_local.storage import encoding
from lakefs_local.storage.encoding import Entry

SCHEME = "local://"
_BATCH = 256
# More of them spend more time taking turns at the interpreter than they save in waiting for a disk.
_READERS = 2
_CHUNK = 1 << 20
# A handle that is good for going on from alone, for which a folder need not be readable.
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


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
        running = [readers.submit(_read_all, batch) for batch in islice(batches, _READERS + 1)]
        while running:
            done = running.pop(0).result()
            following = next(batches, None)
            if following:
                running.append(readers.submit(_read_all, following))
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
    # Where an allowed folder lies may be behind links; what is below this path may not.
    real = str(root.resolve())
    if not allowed(Path(real)):
        raise SourceError(f"creating object-store walker on path {source.path}: forbidden")
    if not source.is_folder:
        yield Found(source.target, order, real)
    elif root.is_dir():
        yield from _walk(real, source.target, order)
    else:
        raise SourceError(f"{location} is a file: import it as an object")


def _walk(folder: str, prefix: bytes, order: int) -> Iterator[Found]:
    """Files below a folder, sorted by their whole path: a folder sorts as its name with a slash."""
    if len(prefix) > MAX_PATH_BYTES:
        raise SourceError(f"the destination of {folder} is above maximum length ({MAX_PATH_BYTES})")
    try:
        handle = open_unlinked(folder, is_folder=True)
    except OSError as problem:
        raise SourceError(f"cannot read {folder}: {problem.strerror}") from None
    try:
        with os.scandir(handle) as found:
            items = sorted(
                (
                    os.fsencode(item.name) + b"/" * item.is_dir(follow_symlinks=False),
                    f"{folder.rstrip('/')}/{item.name}",
                )
                for item in found
            )
    finally:
        os.close(handle)
    for name, path in items:
        if name.endswith(b"/"):
            yield from _walk(path, prefix + name, order)
        else:
            yield Found(prefix + name, order, path)


def open_unlinked(path: str, *, is_folder: bool = False) -> int:
    """A handle of a regular file, or a folder, at an absolute path of which no part is a link: each is opened from the
    one before, so that none can be put in its place meanwhile. Raises OSError."""
    parts = [part for part in path.split("/") if part]
    handle = os.open("/", _STEP)
    for number, part in enumerate(parts, start=1):
        last = number == len(parts)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_DIRECTORY if is_folder else 0)
        try:
            deeper = os.open(part, (flags if last else _STEP) | os.O_NOFOLLOW, dir_fd=handle)
        except OSError as problem:
            if problem.errno in (errno.ELOOP, errno.ENOTDIR):
                raise OSError(
                    problem.errno, "it is a link, or lies behind one: no link is followed"
                ) from None
            raise
        finally:
            os.close(handle)
        handle = deeper
    if not is_folder and not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return handle


def _read_all(batch: list[Found]) -> list[tuple[bytes, bytes]]:
    return [(found.key, _read(found)) for found in batch]


def _read(found: Found) -> bytes:
    key, _, path = found
    try:
        key.decode()
        path.encode()
    except UnicodeError:
        raise SourceError(f"the name of {os.fsencode(path)!r} is not UTF-8") from None
    if len(key) > MAX_PATH_BYTES:
        raise SourceError(f"the destination of {path} is above maximum length ({MAX_PATH_BYTES})")
    try:
        file = open_unlinked(path)
    except OSError as problem:
        raise SourceError(f"cannot read {path}: {problem.strerror}") from None
    try:
        status = os.fstat(file)
        digest = hashlib.md5(usedforsecurity=False)
        while chunk := os.read(file, _CHUNK if status.st_size > _CHUNK else status.st_size + 1):
            digest.update(chunk)
    finally:
        os.close(file)
    return encoding.pack_entry(
        Entry(digest.hexdigest(), status.st_size, max(0, int(status.st_mtime)), location=path)
    )
