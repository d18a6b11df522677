"""What training sees of the sample cache: the samples of a manifest in its order, gathered by position."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.images.decode import Resize, decode
from edge.images.header import UnreadableImage
from resources.error_family import Invalid
from visionops_assets.dataset.cache.segments import Segment

# Small enough that the batch is spread evenly, large enough that handing it over costs nothing.
_DECODED_AT_ONCE = 8


def digests_of(sha256s: Sequence[str]) -> NDArray[np.uint8]:
    """SHA-256 in hex to uint8 (N, 32). Raises `ValueError` naming the first that is none."""
    try:
        digests = np.frombuffer(bytes.fromhex("".join(sha256s)), np.uint8)
        return digests.reshape(len(sha256s), 32)
    except ValueError:
        wrong = next((text for text in sha256s if not _is_digest(text)), "")
        raise Invalid(f"{wrong!r} is not a SHA-256 in hex (64 digits)") from None


def locate(segments: Sequence[Segment], digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where each digest lies, counting rows through all segments; -1 where it does not. Shape (N,)."""
    if not segments or not len(digests):
        return np.full(len(digests), -1, np.int64)
    held = np.concatenate([segment.digests for segment in segments])
    keys = _keys(digests)
    index = pd.Index(_keys(held))
    first = np.flatnonzero(~index.duplicated()) if not index.is_unique else np.arange(len(held))
    places = (index if index.is_unique else index[first]).get_indexer(pd.Index(keys)).astype(np.int64)
    found = np.flatnonzero(places >= 0)
    places[found] = first[places[found]]
    # Two digests that agree in their first 8 bytes: next to impossible, but never the wrong image.
    wrong = found[(held[places[found]] != digests[found]).any(axis=1)]
    for row in wrong:
        matches = np.flatnonzero((held == digests[row]).all(axis=1))
        places[row] = matches[0] if len(matches) else -1
    return places


class SampleView:
    """Decoded samples in a fixed order: sample i is the i-th SHA-256 the view was asked for.

    It may be pickled to another process, which maps the same files.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        places: NDArray[np.int64],
        shape: tuple[int, int, int],
        mode: Resize = "stretch",
        encoded: bool = False,
        threads: int = 2,
    ) -> None:
        """`places` is what `locate` gave for `segments`, without -1; `shape` is (height, width, channels)."""
        self.shape = shape
        self._mode, self._encoded, self._threads = mode, encoded, threads
        counts = np.array([len(segment.digests) for segment in segments], np.int64)
        starts = np.concatenate([[0], np.cumsum(counts)])
        self._segment = np.searchsorted(starts, places, side="right") - 1
        used, self._segment = np.unique(self._segment, return_inverse=True)
        self._row = places - starts[used][self._segment] if len(used) else places
        self._segments = [segments[number] for number in used]
        self._start, self._end = self._extents() if encoded else (self._row, self._row)
        self._executor: ThreadPoolExecutor | None = None
        self._executor_of = 0
        self._open()

    def __len__(self) -> int:
        return len(self._row)

    def gather(
        self, indices: NDArray[np.integer] | Sequence[int], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """The samples at these positions, uint8 (N, H, W, C), written into `out` if given.

        Raises `IndexError` for a position outside the view.
        """
        wanted = np.asarray(indices, np.int64)
        if out is None:
            out = np.empty((len(wanted), *self.shape), np.uint8)
        if self._encoded:
            self._decode_into(out, wanted)
            return out
        rows, segments = self._row[wanted], self._segment[wanted]
        if len(self._maps) == 1:
            np.take(self._rows_of(0), rows, axis=0, out=out, mode="clip")
        else:
            for number in np.unique(segments):
                chosen = np.flatnonzero(segments == number)
                out[chosen] = self._rows_of(number)[rows[chosen]]
        return out

    def _rows_of(self, number: int) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self._maps[number].reshape(-1, *self.shape)
        return found

    def _extents(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each encoded sample starts and ends in its segment, in bytes."""
        start, end = np.zeros_like(self._row), np.zeros_like(self._row)
        for number, segment in enumerate(self._segments):
            chosen = self._segment == number
            ends = np.cumsum(segment.lengths).astype(np.int64)
            end[chosen] = ends[self._row[chosen]]
            start[chosen] = end[chosen] - segment.lengths[self._row[chosen]].astype(np.int64)
        return start, end

    def _decode_into(self, out: NDArray[np.uint8], wanted: NDArray[np.int64]) -> None:
        extents = list(
            zip(
                self._segment[wanted].tolist(),
                self._start[wanted].tolist(),
                self._end[wanted].tolist(),
                strict=True,
            )
        )

        def decode_some(first: int) -> None:
            for place in range(first, min(first + _DECODED_AT_ONCE, len(extents))):
                number, start, end = extents[place]
                try:
                    decode(
                        self._maps[number][start:end].tobytes(), "", *self.shape, self._mode, out=out[place]
                    )
                except UnreadableImage as error:
                    segment, row = self._segments[number], self._row[wanted[place]]
                    name = f"image {segment.digests[row].tobytes().hex()}"
                    raise UnreadableImage(name, error.reason) from error

        starts = range(0, len(extents), _DECODED_AT_ONCE)
        if self._threads == 1 or len(starts) < 2:
            for first in starts:
                decode_some(first)
        else:
            list(self._pool().map(decode_some, starts))

    def _pool(self) -> ThreadPoolExecutor:
        # Threads do not survive a fork; a worker process needs its own.
        if self._executor is None or self._executor_of != os.getpid():
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
            self._executor_of = os.getpid()
        return self._executor

    def _open(self) -> None:
        self._maps = [segment.map() for segment in self._segments]

    def __getstate__(self) -> dict[str, Any]:
        kept = {key: value for key, value in self.__dict__.items() if key != "_maps"}
        return kept | {"_executor": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def _keys(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdefABCDEF" for character in text)
