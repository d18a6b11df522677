"""The sample cache: images by content, decoded once, read by training as memory-mapped rows.

An image is known by (SHA-256, decode size), so dataset versions share what they have in common and a new
version fetches and decodes only what is new. Where the decoded set would not fit, `encoded=True` keeps the
images' own bytes, which all decode sizes share, and decodes at every gather.

Several processes may share a cache. One at a time fills it, under a lock that dies with its holder; readers
never wait. `segments.py` says what lies on disk and why a killed writer harms nothing.
"""

import errno
import hashlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from edge.images.decode import Resize, decode
from edge.images.header import UnreadableImage
from resources.error_family import Altered, NotFound, Unavailable
from visionops_assets.dataset.cache.sample_view import SampleView, digests_of, locate
from visionops_assets.dataset.cache.segments import (
    Segment,
    SegmentWriter,
    compact_segments,
    evict_segments,
    read_segments,
    remove_leftovers,
)

FORMAT = 1
SEGMENT_BYTES = 256 << 20
# Beyond this many segments a gather jumps between too many files.
MANY_SEGMENTS = 16
# A segment used this recently may be in the hands of another process.
RECENT_SECONDS = 3600.0

Wanted = Sequence[tuple[str, str, int]]
Fetch = Callable[[list[str]], Iterable[tuple[str, bytes]]]
Progress = Callable[[int, int], None]
_Prepared = tuple[list[tuple[str, memoryview, int]], Exception | None]


class SampleError(Altered):
    """An image that did not arrive as the annotations describe it; the message names it."""


class CacheFull(Unavailable, OSError):
    """No room for the samples wanted; the message says how much is needed and what to change."""


@dataclass(frozen=True)
class FillReport:
    """Of the images `wanted`, `present` were there; `added` were fetched (`fetched_bytes`), copies once."""

    wanted: int
    present: int
    added: int
    fetched_bytes: int
    seconds: float


class SampleCache:
    """The samples of one decode size under `root`. `max_bytes` caps what they take on disk."""

    def __init__(
        self,
        root: Path,
        height: int,
        width: int,
        channels: int,
        resize: Resize = "stretch",
        *,
        encoded: bool = False,
        max_bytes: int | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        threads: int = 2,
    ) -> None:
        self.shape = (height, width, channels)
        self.resize = resize
        self.encoded = encoded
        self.max_bytes = max_bytes
        name = "encoded" if encoded else f"{height}x{width}x{channels}-{resize}"
        self.folder = root / f"v{FORMAT}" / name
        self._segment_bytes, self._threads = segment_bytes, threads
        self._row_bytes = height * width * channels

    def fill(self, wanted: Wanted, fetch: Fetch, progress: Progress | None = None) -> FillReport:
        """Make sure that every image wanted, as (path, sha256, size in bytes), is in the cache.

        `fetch` is asked once for the paths that are missing and gives (path, bytes) in any order. What came
        before an error stays. Raises `SampleError` for bytes with another SHA-256 or that never came,
        `UnreadableImage` for what cannot be decoded, `CacheFull`, and whatever `fetch` raises.
        """
        started = time.monotonic()
        digests = digests_of([sha256 for _, sha256, _ in wanted])
        self._make_folder()
        missing, present = self._missing(wanted, digests)
        fetched = 0
        if missing:
            # Beside the folder, which may be deleted at any time.
            with FileLock(f"{self.folder}.lock"):
                self._make_folder()
                # Another process may have filled it while this one waited.
                missing, present = self._missing(wanted, digests)
                remove_leftovers(self.folder)
                self._make_room(missing, digests)
                fetched = self._fill_missing(missing, fetch, progress)
                compact_segments(self.folder, self._segment_bytes, MANY_SEGMENTS)
        return FillReport(len(wanted), present, len(missing), fetched, time.monotonic() - started)

    def view(self, sha256s: Sequence[str]) -> SampleView:
        """The samples with these SHA-256s, in this order. Raises `LookupError` when some are not cached."""
        digests = digests_of(sha256s)
        for _ in range(5):
            segments = read_segments(self.folder)
            places = locate(segments, digests)
            lacking = np.flatnonzero(places < 0)
            if len(lacking):
                raise NotFound(
                    f"{len(lacking)} of {len(sha256s)} samples are not in the cache {self.folder}, the first is "
                    f"{sha256s[lacking[0]]}; fill it first"
                )
            try:
                view = SampleView(segments, places, self.shape, self.resize, self.encoded, self._threads)
            except FileNotFoundError:
                # Evicted or compacted by another process since the listing.
                continue
            _mark_used(segments, places)
            return view
        raise NotFound(f"the cache {self.folder} is being rewritten all the time; is its size cap too small?")

    def _missing(self, wanted: Wanted, digests: NDArray[np.uint8]) -> tuple[dict[str, tuple[str, int]], int]:
        """Path and size of each image that is not cached, by SHA-256; and how many of those wanted are."""
        segments = read_segments(self.folder)
        places = locate(segments, digests)
        _mark_used(segments, places[places >= 0])
        missing: dict[str, tuple[str, int]] = {}
        for row in np.flatnonzero(places < 0):
            path, sha256, size = wanted[int(row)]
            missing.setdefault(sha256, (path, size))
        return missing, int((places >= 0).sum())

    def _fill_missing(
        self, missing: dict[str, tuple[str, int]], fetch: Fetch, progress: Progress | None
    ) -> int:
        expected = {path: sha256 for sha256, (path, _) in missing.items()}
        done = fetched = 0
        arriving = self._decoded(fetch(list(expected)), expected)
        while done < len(missing):
            with SegmentWriter(self.folder) as writer, _told_when_full(self.folder):
                try:
                    for sha256, row, length in arriving:
                        writer.append(bytes.fromhex(sha256), row)
                        done, fetched = done + 1, fetched + length
                        if progress:
                            progress(done, len(missing))
                        if writer.bytes >= self._segment_bytes:
                            break
                finally:
                    complete = writer.commit()
            if complete is None or complete.bytes < self._segment_bytes:
                break
        if expected:
            path = next(iter(expected))
            raise SampleError(
                f"{path}: {len(expected)} of {len(missing)} images never came; is it still there?"
            )
        return fetched

    def _decoded(
        self, arriving: Iterable[tuple[str, bytes]], expected: dict[str, str]
    ) -> Iterator[tuple[str, memoryview, int]]:
        """(sha256, row, bytes fetched) of each image, removing it from `expected`.

        An error is raised once everything that came before it was given out.
        """
        lost: list[Exception] = []
        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            running: deque[Future[_Prepared]] = deque()
            for some in _in_chunks(_until_lost(arriving, lost), expected):
                running.append(pool.submit(self._prepare, some))
                if len(running) > 2 * self._threads:
                    yield from _rows_of(running.popleft().result())
            while running:
                yield from _rows_of(running.popleft().result())
        if lost:
            raise lost[0]

    def _prepare(self, some: list[tuple[str, bytes, str]]) -> "_Prepared":
        rows = []
        for path, data, sha256 in some:
            try:
                rows.append((sha256, self._row(path, data, sha256), len(data)))
            except (SampleError, UnreadableImage) as error:
                return rows, error
        return rows, None

    def _row(self, path: str, data: bytes, sha256: str) -> memoryview:
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise SampleError(
                f"{path}: its {len(data)} bytes have the SHA-256 {found}, the annotations say {sha256}; "
                "it was altered after its batch was audited"
            )
        if self.encoded:
            return memoryview(data)
        return decode(data, path, *self.shape, self.resize).reshape(-1).data

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheFull(
                error.errno,
                f"the sample cache {self.folder} cannot be made: {error.strerror}; see the folder above",
            ) from error

    def _make_room(self, missing: dict[str, tuple[str, int]], in_use: NDArray[np.uint8]) -> None:
        sizes = [size if self.encoded else self._row_bytes for _, size in missing.values()]
        needed = sum(sizes)
        segments = read_segments(self.folder)
        held = sum(segment.bytes for segment in segments)
        room = shutil.disk_usage(self.folder).free
        limit = "the disk"
        if self.max_bytes is not None and self.max_bytes - held < room:
            room, limit = self.max_bytes - held, "its size cap"
        room += evict_segments(segments, in_use, needed - room, RECENT_SECONDS) if room < needed else 0
        if room < needed:
            remedy = "free disk space" if limit == "the disk" else "raise VISIONOPS_CACHE_MIB"
            if not self.encoded:
                remedy += ", or keep images as they came: VISIONOPS_CACHE_KEEPS=encoded"
            raise CacheFull(
                errno.ENOSPC,
                f"the sample cache {self.folder} needs {_mib(needed)} more for {len(missing)} samples, and "
                f"{limit} leaves {_mib(max(room, 0))}; {remedy}",
            )


def _rows_of(prepared: _Prepared) -> Iterator[tuple[str, memoryview, int]]:
    rows, error = prepared
    yield from rows
    if error is not None:
        raise error


def _until_lost(arriving: Iterable[tuple[str, bytes]], lost: list[Exception]) -> Iterator[tuple[str, bytes]]:
    """What arrives; an error of the source ends it and is noted in `lost` for the caller to raise."""
    try:
        yield from arriving
    except Exception as error:
        lost.append(error)


def _in_chunks(
    arriving: Iterable[tuple[str, bytes]], expected: dict[str, str]
) -> Iterator[list[tuple[str, bytes, str]]]:
    """(path, bytes, sha256) in lists worth a thread's while: handing over one small image costs as much as
    decoding it."""
    chunk: list[tuple[str, bytes, str]] = []
    held = 0
    for path, data in arriving:
        sha256 = expected.pop(path, None)
        if sha256 is None:
            continue
        chunk.append((path, data, sha256))
        held += len(data)
        if len(chunk) == 32 or held > 1 << 20:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _mark_used(segments: Sequence[Segment], places: NDArray[np.int64]) -> None:
    used = np.zeros(sum(len(segment.digests) for segment in segments), bool)
    used[places] = True
    start = 0
    for segment in segments:
        if used[start : start + len(segment.digests)].any():
            segment.mark_used()
        start += len(segment.digests)


@contextmanager
def _told_when_full(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise CacheFull(
            error.errno,
            f"the sample cache {folder} could not be written: {error.strerror}; free disk space and run it again, "
            "what was cached before stays",
        ) from error


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"
