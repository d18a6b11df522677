"""Which images may be near duplicates: those whose pHashes agree where the image is sure of them.

pHash, format 1 (64 bits, after Zauner, "Implementation and benchmarking of perceptual image hash functions",
2010): grey, stretched to 32×32 (`decode.resize`), the 8×8 lowest frequencies of its DCT-II, a bit for each
that exceeds their median, row by row, highest bit first. The annotations keep that of the image decoded to
grey (`decode_whole(data, path, 1)`). The cosines are rounded to multiples of 2⁻¹⁴ and all
sums stay below 2⁵³, hence exact: the same bits on every machine. Written as 16 hex digits.

Encoding again turns bits whose frequency is near the median, and in a plain image those are many; a bit far from it
stays. So the bits of an older image, which are all that is kept of it, are weighed by how sure the newer image is of
its own (`Surety`): copies are within 8% of the weight (12% where an image is tiny), which of other images one pair in
many thousands is. That proposes; `near_duplicates.py` says what decides.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.images.decode import Pixels, resize

MAX_DISTANCE = 8
BITS = 64

_SIZE = 32
_LOW = 8
# Four bands of 16 bits: within distance 8, one of them is within distance 2.
_BANDS = 4
_BAND_BITS = 16
# Sureties: the usual one, and what none exceeds.
_USUAL, _MOST = 42.0, 127
_PAIRS_AT_ONCE = 1 << 14
_QUERIES_AT_ONCE = 128


def _cosines() -> NDArray[np.float64]:
    frequency, place = np.mgrid[0:_LOW, 0:_SIZE]
    found: NDArray[np.float64] = np.rint(np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SIZE)) * 2**14)
    return found


_COSINES = _cosines()


def grey(pixels: Pixels) -> Pixels:
    """uint8 (H, W, 1 or 3) to grey (H, W) by ITU-R 601 luma."""
    if pixels.shape[2] == 1:
        return pixels[..., 0]
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))


def phash(pixels: Pixels) -> int:
    """The 64-bit pHash of an upright uint8 image (H, W, 1 or 3)."""
    return hashed(pixels)[0]


def hashed(pixels: Pixels) -> tuple[int, NDArray[np.int8]]:
    """The pHash of an upright uint8 image (H, W, 1 or 3), and its sureties, int8 (64,): how far each frequency is
    above their median, highest bit first, their root mean square being 42."""
    small = resize(grey(pixels)[..., None], _SIZE, _SIZE)[..., 0].astype(np.float64)
    low = _COSINES @ small @ _COSINES.T
    above = (low - np.median(low)).ravel()
    # The mean grey of an image says nothing of what it shows.
    usual = max(np.sqrt(np.mean(above[1:] ** 2)), 1.0)
    sureties = np.clip(np.rint(above * (_USUAL / usual)), -_MOST, _MOST).astype(np.int8)
    sureties[0] = 0
    return int.from_bytes(np.packbits(above > 0).tobytes(), "big"), sureties


def phash_values(texts: Sequence[str]) -> NDArray[np.uint64]:
    """pHashes from their texts, uint64 (N,)."""
    raw = bytes.fromhex("".join(texts))
    return np.frombuffer(raw, ">u8").astype(np.uint64)


def correlation(one: Pixels, other: Pixels) -> float:
    """Pearson's correlation of the grey values of two images (H, W, C), the larger brought to the smaller's size.

    Two plain images (no variance) correlate fully when their greys differ by at most 2, else not at all.
    """
    first, second = sorted((grey(one), grey(other)), key=lambda image: image.size)
    second = resize(second[..., None], *first.shape)[..., 0]
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    a_mean, b_mean = a.mean(), b.mean()
    a, b = a - a_mean, b - b_mean
    scale = np.sqrt((a @ a) * (b @ b))
    if scale == 0:
        return 1.0 if a @ a == b @ b and abs(a_mean - b_mean) <= 2 else 0.0
    return float(a @ b / scale)


class Candidates(NamedTuple):
    """Pairs within the distance: positions in the query and in the index, int64 (P,), and distances, uint8 (P,)."""

    query: NDArray[np.int64]
    match: NDArray[np.int64]
    distance: NDArray[np.uint8]


class PhashIndex:
    """All pHashes of a data set, asked which are near to given ones.

    Multi-index hashing (Norouzi, Punjani, Fleet, "Fast search in Hamming space with multi-index hashing",
    CVPR 2012): exact, and the cost of a query grows with what shares a band with it, not with the data set.
    """

    def __init__(self, values: NDArray[np.uint64], max_distance: int = MAX_DISTANCE) -> None:
        self.values = np.asarray(values, np.uint64)
        self.max_distance = max_distance
        self._flips = _flips(_BAND_BITS, max_distance // _BANDS)
        self._order, self._starts = [], []
        for band in range(_BANDS):
            keys = _band(self.values, band)
            self._order.append(np.argsort(keys, kind="stable").astype(np.uint32))
            counts = np.bincount(keys, minlength=1 << _BAND_BITS)
            self._starts.append(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))

    def near(self, query: NDArray[np.uint64]) -> Iterator[Candidates]:
        """All pairs (query, index) within the distance, each once, in portions of bounded memory, by query."""
        query = np.asarray(query, np.uint64)
        for start, stop in self._portions(query):
            yield self._near(query[start:stop], start)

    def _portions(self, query: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
        cost = np.zeros(len(query), np.int64)
        for start in range(0, len(query), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            for band in range(_BANDS):
                probes = _band(query[part], band)[:, None] ^ self._flips
                starts = self._starts[band]
                cost[part] += (starts[probes + 1] - starts[probes]).sum(axis=1)
        total = np.cumsum(cost)
        start = 0
        while start < len(query):
            most = total[start] - cost[start] + _PAIRS_AT_ONCE
            stop = max(start + 1, int(np.searchsorted(total, most, side="right")))
            yield start, stop
            start = stop

    def _near(self, query: NDArray[np.uint64], offset: int) -> Candidates:
        found = [self._near_by_band(query, band) for band in range(_BANDS)]
        rows = np.concatenate([pair[0] for pair in found])
        places = np.concatenate([pair[1] for pair in found])
        # A pair that agrees in several bands was found several times.
        pairs = np.unique(rows * np.int64(len(self.values)) + places)
        rows, places = pairs // max(1, len(self.values)), pairs % max(1, len(self.values))
        distance = np.bitwise_count(query[rows] ^ self.values[places])
        return Candidates(rows + offset, places, distance)

    def _near_by_band(
        self, query: NDArray[np.uint64], band: int
    ) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
        probes = (_band(query, band)[:, None] ^ self._flips).ravel()
        starts = self._starts[band]
        first, counts = starts[probes], starts[probes + 1] - starts[probes]
        rows = np.repeat(np.repeat(np.arange(len(query), dtype=np.int32), len(self._flips)), counts)
        # Position within each run of equal probes.
        within = np.arange(len(rows), dtype=np.int32)
        within -= np.repeat(np.cumsum(counts, dtype=np.int32) - counts, counts)
        places = self._order[band][np.repeat(first, counts) + within]
        near = np.bitwise_count(query[rows] ^ self.values[places]) <= self.max_distance
        return rows[near], places[near]


def _band(values: NDArray[np.uint64], band: int) -> NDArray[np.int32]:
    shifted = values >> np.uint64(band * _BAND_BITS)
    return (shifted & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int32)


def _flips(bits: int, radius: int) -> NDArray[np.int32]:
    """Every mask of `bits` bits with at most `radius` ones."""
    masks = np.arange(1 << bits, dtype=np.int32)
    return masks[np.bitwise_count(masks) <= radius]
