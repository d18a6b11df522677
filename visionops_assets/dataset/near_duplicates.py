"""Near duplicates among images: proposed by pHash, decided by correlation, and in a scene by details (`scenes.py`)."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from visionops_assets.dataset.arrow_memory import give_back
from visionops_assets.dataset.decode import Pixels
from visionops_assets.dataset.details import LEVELS
from visionops_assets.dataset.duplicates import MAX_DISTANCE, MIN_CORRELATION, PhashIndex, correlation
from visionops_assets.dataset.groups import numbered
from visionops_assets.dataset.scenes import Details, Neighbours

# Of grey images, one byte a pixel; and of images, so that small ones take no more the more there are.
_KEPT_BYTES = 64 << 20
_KEPT_IMAGES = 512
_PARTS_UNTIL_GIVEN_BACK = 16
# Images that are compared with one another at once, and up to how many pairs all are.
_ROWS, _COLUMNS = 256, 512
_COMPARED_AT_MOST = 5_000_000_000
# One pair of so many is worth a look of its own.
_FEW = 50

# Newer, older, distance.
Pair = tuple[int, int, int]
Load = Callable[[Sequence[int]], Iterator[tuple[int, Pixels]]]


class NearDuplicate(NamedTuple):
    """Image number `newer` shows the same as number `older`."""

    newer: int
    older: int
    distance: int
    correlation: float


# Matrices of an image's size are multiplied slower by several threads, which wait for each other.
@threadpool_limits.wrap(limits=1, user_api="blas")
def find_near_duplicates(
    phashes: NDArray[np.uint64],
    digests: NDArray[np.uint8],
    pixels: Sequence[int] | NDArray[np.int64],
    first_new: int,
    load: Load,
) -> list[NearDuplicate]:
    """The pairs of near duplicates of which at least the newer one is new, by newer, then older.

    Images are numbered from oldest to newest, those from `first_new` on are new; `digests` is the SHA-256 of each,
    (N, 32), and `pixels` its size. `load` gives (number, grey uint8 (H, W, 1)) for the numbers asked for; what it
    leaves out is no duplicate of anything. Images with the same SHA-256 are duplicates without being looked at. At
    most 128 MiB of images, and 1,024 of them, or two images, are at hand at once.
    """
    found: list[NearDuplicate] = []
    kept, count, same = _Kept(load), len(phashes), numbered(digests)
    details = Details(pixels, load, _KEPT_BYTES)
    scenes: dict[int, Neighbours] = {}
    for number, block in enumerate(_blocks(phashes, first_new)):
        if number % _PARTS_UNTIL_GIVEN_BACK == 0:
            give_back()
        rows, columns = np.nonzero(block.maybe & (same[block.newer][:, None] == same[block.older]))
        block.maybe[rows, columns] = False
        for new, old in zip(block.newer[rows].tolist(), block.older[columns].tolist(), strict=True):
            found.append(NearDuplicate(new, old, int(np.bitwise_count(phashes[new] ^ phashes[old])), 1.0))
        details.prepare(
            np.union1d(block.newer[block.maybe.any(axis=1)], block.older[block.maybe.any(axis=0)])
        )
        level_of_rows, level_of_columns = details.levels[block.newer], details.levels[block.older]
        for level in LEVELS:
            on_level = np.minimum.outer(level_of_rows, level_of_columns) == level
            here = block.maybe & on_level
            if here.any():
                if level not in scenes:
                    scenes[level] = Neighbours(count, level)
                _add(scenes[level], block, here, details)
                block.maybe &= ~on_level
        rows, columns = np.nonzero(block.maybe)
        found += _correlated(block.newer[rows], block.older[columns], phashes, pixels, kept)
    for scene in scenes.values():
        copies = np.array(scene.copies(), np.int64).reshape(-1, 2)
        copies = copies[copies[:, 0] >= first_new]
        found += _correlated(copies[:, 0], copies[:, 1], phashes, pixels, kept)
    return sorted(found)


@dataclass
class _Block:
    """Images `newer` (N,), `older` (M,), and which pairs have near pHashes, the first being the newer: (N, M)."""

    newer: NDArray[np.int64]
    older: NDArray[np.int64]
    maybe: NDArray[np.bool_]


def _blocks(phashes: NDArray[np.uint64], first_new: int) -> Iterator[_Block]:
    """Every pair of near pHashes whose newer image is new, once.

    Up to some hundred million pairs in all they are compared with one another, which finds a scene of ten thousands
    faster than an index does; beyond, the index finds the few that are near.
    """
    count = len(phashes)
    if (count - first_new) * count <= _COMPARED_AT_MOST:
        for start in range(first_new, count, _ROWS):
            newer = np.arange(start, min(start + _ROWS, count))
            for place in range(0, int(newer[-1]), _COLUMNS):
                older = np.arange(place, min(place + _COLUMNS, int(newer[-1])))
                near = np.bitwise_count(phashes[newer][:, None] ^ phashes[older]) <= MAX_DISTANCE
                near &= older < newer[:, None]
                if near.any():
                    yield _Block(newer, older, near)
        return
    for part in PhashIndex(phashes).near(phashes[first_new:]):
        chosen = part.match < part.query + first_new
        newer, older = part.query[chosen] + first_new, part.match[chosen]
        rows, row = np.unique(newer, return_inverse=True)
        # Of many images few pairs are near: a block of all of them would be empty and large.
        for start in range(0, len(rows), _ROWS):
            here = (row >= start) & (row < start + _ROWS)
            columns, column = np.unique(older[here], return_inverse=True)
            maybe = np.zeros((len(rows[start : start + _ROWS]), len(columns)), bool)
            maybe[row[here] - start, column] = True
            yield _Block(rows[start : start + _ROWS], columns, maybe)


def _add(scene: Neighbours, block: _Block, here: NDArray[np.bool_], details: Details) -> None:
    rows, columns = np.flatnonzero(here.any(axis=1)), np.flatnonzero(here.any(axis=0))
    if here.sum() * _FEW < len(rows) * len(columns):
        row, column = np.nonzero(here)
        newer, older = block.newer[row], block.older[column]
        scene.add(newer, older, details.likeness(newer, older, scene.level))
    else:
        part = here[np.ix_(rows, columns)]
        scene.add_block(block.newer[rows], block.older[columns], part, details)


def _correlated(
    newer: NDArray[np.int64],
    older: NDArray[np.int64],
    phashes: NDArray[np.uint64],
    pixels: Sequence[int] | NDArray[np.int64],
    kept: "_Kept",
) -> Iterator[NearDuplicate]:
    """Those of the pairs whose grey values correlate."""
    distances = np.bitwise_count(phashes[newer] ^ phashes[older]).tolist()
    pairs = sorted(zip(newer.tolist(), older.tolist(), distances, strict=True))
    for some in _portions(pairs, pixels):
        kept.prepare([one for pair in some for one in pair[:2]])
        for new, old, distance in some:
            one, other = kept.get(new), kept.get(old)
            if one is not None and other is not None:
                value = correlation(one, other)
                if value >= MIN_CORRELATION:
                    yield NearDuplicate(new, old, distance, value)


def _portions(pairs: Sequence[Pair], pixels: Sequence[int] | NDArray[np.int64]) -> Iterator[list[Pair]]:
    """The pairs in order, each portion of at most `_KEPT_BYTES` and `_KEPT_IMAGES`, or one pair."""
    portion: list[Pair] = []
    images: set[int] = set()
    total = 0
    for pair in pairs:
        more = sum(pixels[one] for one in {pair[0], pair[1]} - images)
        if portion and (total + more > _KEPT_BYTES or len(images) > _KEPT_IMAGES - 2):
            yield portion
            portion, images, total = [], set(), 0
            more = sum(pixels[one] for one in pair[:2])
        portion.append(pair)
        images |= {pair[0], pair[1]}
        total += more
    if portion:
        yield portion


class _Kept:
    """Grey images, the last used ones kept."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._pixels: OrderedDict[int, Pixels | None] = OrderedDict()
        self._bytes = 0

    def prepare(self, numbers: Sequence[int]) -> None:
        """Have all of these at hand, at least until the next call."""
        wanted = set(numbers)
        for number in [one for one in self._pixels if one not in wanted]:
            if self._bytes <= _KEPT_BYTES and len(self._pixels) <= _KEPT_IMAGES:
                break
            dropped = self._pixels.pop(number)
            self._bytes -= 0 if dropped is None else dropped.nbytes
        missing = sorted(wanted - self._pixels.keys())
        self._pixels.update(dict.fromkeys(missing))
        if missing:
            for number, loaded in self._load(missing):
                self._pixels[number] = loaded
                self._bytes += loaded.nbytes

    def get(self, number: int) -> Pixels | None:
        self._pixels.move_to_end(number)
        return self._pixels[number]
