"""Keeping the sample cache within its size and its segments few. Only for the holder of the fill lock."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionops_assets.dataset.segments import Segment, SegmentWriter, read_segments


def evict(segments: Sequence[Segment], in_use: NDArray[np.uint8], size: int, recent_seconds: float) -> int:
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


def compact(folder: Path, segment_bytes: int, many: int) -> None:
    """Where there are more than `many` segments, write the small ones (under half of `segment_bytes`) anew as
    full ones, each image once. The new ones are complete before the old ones go."""
    segments = read_segments(folder)
    if len(segments) <= many:
        return
    small = [segment for segment in segments if segment.bytes < segment_bytes / 2]
    if shutil.disk_usage(folder).free < 2 * sum(segment.bytes for segment in small):
        return
    held = {digest.tobytes() for segment in segments if segment not in small for digest in segment.digests}
    rows = _rows(small, held)
    while _write_segment(folder, rows, segment_bytes) is not None:
        continue
    for segment in small:
        segment.remove()


def _rows(segments: Sequence[Segment], held: set[bytes]) -> Iterator[tuple[bytes, memoryview]]:
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
