"""Segments of the sample cache: append-only files, each with an index that makes it valid.

On disk, format 1, in one folder for each decode size and one for encoded images:
    seg-<uuid>.bin   rows one after the other: decoded uint8 (height, width, channels), or encoded images
    seg-<uuid>.idx   40 bytes a row in the order of the rows: SHA-256 of the image, length of the row (uint64,
                     little endian)
The index is renamed into place after the rows are on disk. Rows without an index are what a killed writer
left; an index never lacks its rows. An index's modification time says when a manifest last used it.

Their holder of the fill lock keeps the cache within its size and its segments few.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

_ENTRY = np.dtype([("sha256", "u1", 32), ("length", "<u8")])


@dataclass(frozen=True, eq=False)
class Segment:
    """A complete segment: `digests` uint8 (rows, 32), `lengths` uint64 (rows,) in bytes."""

    path: Path
    digests: NDArray[np.uint8]
    lengths: NDArray[np.uint64]

    @property
    def index(self) -> Path:
        return self.path.with_suffix(".idx")

    @property
    def bytes(self) -> int:
        return int(self.lengths.sum())

    def map(self) -> NDArray[np.uint8]:
        """Its rows as one run of bytes, mapped. Raises `FileNotFoundError` when it was evicted meanwhile."""
        return np.memmap(self.path, np.uint8, "r").view(np.ndarray)

    def mark_used(self) -> None:
        """Say that a manifest uses it now. One that was evicted meanwhile is no error."""
        try:
            os.utime(self.index)
        except FileNotFoundError:
            return

    def remove(self) -> None:
        """Invalid first, then gone: a kill in between leaves rows without an index."""
        self.index.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def read_segments(folder: Path) -> list[Segment]:
    """The complete segments of a folder, by name. What is incomplete or altered in length is left out.

    Compaction puts a new segment in place before it removes the old ones: if one goes while they are read, they
    are listed again, so that no row is missed in between.
    """
    while True:
        found = []
        for index in sorted(folder.glob("seg-*.idx")):
            segment = _read_segment(index)
            if segment is not None:
                found.append(segment)
            elif not index.exists():
                break
        else:
            return found


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left. Only for the one process that may write here."""
    for path in [*folder.glob("seg-*.bin"), *folder.glob("seg-*.tmp")]:
        if path.suffix == ".tmp" or not path.with_suffix(".idx").exists():
            path.unlink(missing_ok=True)


class SegmentWriter:
    """Writes one segment. Leaving the context without a successful `commit` removes what was written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"seg-{uuid.uuid4().hex}.bin"
        self._stream = self._path.open("xb")
        self._digests: list[bytes] = []
        self._lengths: list[int] = []
        self._complete = True
        self.bytes = 0

    def append(self, digest: bytes, row: bytes | memoryview) -> None:
        """Add the row of the image whose SHA-256 is `digest` (32 bytes)."""
        length = row.nbytes if isinstance(row, memoryview) else len(row)
        self._complete = False
        self._stream.write(row)
        self._complete = True
        self._digests.append(digest)
        self._lengths.append(length)
        self.bytes += length

    def commit(self) -> Segment | None:
        """Make the rows durable, then visible. None when there are none, or a write failed half-way."""
        if not self._digests or not self._complete:
            return None
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        entries = np.zeros(len(self._digests), _ENTRY)
        entries["sha256"] = np.frombuffer(b"".join(self._digests), np.uint8).reshape(-1, 32)
        entries["length"] = self._lengths
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("xb") as stream:
            stream.write(entries.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._path.with_suffix(".idx"))
        _sync_folder(self._path.parent)
        return Segment(self._path, entries["sha256"], entries["length"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._path.with_suffix(".idx").exists():
            self._path.unlink(missing_ok=True)
            self._path.with_suffix(".tmp").unlink(missing_ok=True)
        # Closing writes what is buffered, which fails again where the disk is full.
        try:
            self._stream.close()
        except OSError:
            if error is None:
                raise


def _read_segment(index: Path) -> Segment | None:
    path = index.with_suffix(".bin")
    try:
        content = index.read_bytes()
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    if not content or len(content) % _ENTRY.itemsize:
        return None
    entries = np.frombuffer(content, _ENTRY)
    if int(entries["length"].sum()) != size:
        return None
    return Segment(path, np.ascontiguousarray(entries["sha256"]), np.ascontiguousarray(entries["length"]))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def evict_segments(
    segments: Sequence[Segment], in_use: NDArray[np.uint8], size: int, recent_seconds: float
) -> int:
    """Remove whole segments until `size` bytes are free, least recently used first; returns the bytes freed.

    A segment stays that holds a digest of `in_use` (uint8 (N, 32)) or was used in the last `recent_seconds`.
    """
    needed = {digest.tobytes() for digest in in_use}
    ages = []
    for segment in segments:
        try:
            ages.append((segment.index.stat().st_mtime, segment))
        except FileNotFoundError:
            continue
    freed = 0
    for used_at, segment in sorted(ages, key=lambda pair: pair[0]):
        if freed >= size:
            break
        # What is dated in the future was used by a clock that is set right since.
        if abs(time.time() - used_at) < recent_seconds:
            continue
        if any(digest.tobytes() in needed for digest in segment.digests):
            continue
        segment.remove()
        freed += segment.bytes
    return freed


def compact_segments(folder: Path, segment_bytes: int, many: int) -> None:
    """Where there are more than `many` segments, write the small ones (under half of `segment_bytes`) anew as
    full ones, each image once. The new ones are complete before the old ones go."""
    segments = read_segments(folder)
    if len(segments) <= many:
        return
    small = [segment for segment in segments if segment.bytes < segment_bytes / 2]
    if shutil.disk_usage(folder).free < 2 * sum(segment.bytes for segment in small):
        return
    held = {digest.tobytes() for segment in segments if segment not in small for digest in segment.digests}
    rows = _rows_not_held(small, held)
    while _write_segment(folder, rows, segment_bytes) is not None:
        continue
    for segment in small:
        segment.remove()


def _rows_not_held(segments: Sequence[Segment], held: set[bytes]) -> Iterator[tuple[bytes, memoryview]]:
    """(digest, row) of each image that is not `held`, once."""
    seen = set(held)
    for segment in segments:
        mapped = segment.map()
        ends = np.cumsum(segment.lengths)
        for digest, length, end in zip(segment.digests, segment.lengths, ends, strict=True):
            key = digest.tobytes()
            if key not in seen:
                seen.add(key)
                yield key, mapped[int(end - length) : int(end)].data


def _write_segment(
    folder: Path, rows: Iterator[tuple[bytes, memoryview]], segment_bytes: int
) -> Segment | None:
    with SegmentWriter(folder) as writer:
        for digest, row in rows:
            writer.append(digest, row)
            if writer.bytes >= segment_bytes:
                break
        return writer.commit()
