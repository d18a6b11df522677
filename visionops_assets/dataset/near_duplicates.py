"""Near duplicates among images: proposed by pHash, decided by correlation (`duplicates.py` has the rule)."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visionops_assets.dataset.arrow_memory import give_back
from visionops_assets.dataset.decode import Pixels
from visionops_assets.dataset.duplicates import MIN_CORRELATION, PhashIndex, correlation

# Of grey images, one byte a pixel; and of images, so that small ones take no more the more there are.
_KEPT_BYTES = 64 << 20
_KEPT_IMAGES = 512
_PARTS_UNTIL_GIVEN_BACK = 16

# Newer, older, distance.
Pair = tuple[int, int, int]
Load = Callable[[Sequence[int]], Iterator[tuple[int, Pixels]]]


class NearDuplicate(NamedTuple):
    """Image number `newer` shows the same as number `older`."""

    newer: int
    older: int
    distance: int
    correlation: float


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
    kept = _Kept(load)
    for number, part in enumerate(PhashIndex(phashes).near(phashes[first_new:])):
        if number % _PARTS_UNTIL_GIVEN_BACK == 0:
            give_back()
        newer = part.query + first_new
        chosen = part.match < newer
        pairs = sorted(
            zip(
                newer[chosen].tolist(),
                part.match[chosen].tolist(),
                part.distance[chosen].tolist(),
                strict=True,
            )
        )
        for some in _portions(pairs, pixels):
            copies = [digests[new].tobytes() == digests[old].tobytes() for new, old, _ in some]
            kept.prepare(
                [one for pair, copy in zip(some, copies, strict=True) if not copy for one in pair[:2]]
            )
            for (new, old, distance), copy in zip(some, copies, strict=True):
                if copy:
                    found.append(NearDuplicate(new, old, distance, 1.0))
                    continue
                one, other = kept.get(new), kept.get(old)
                if one is not None and other is not None:
                    value = correlation(one, other)
                    if value >= MIN_CORRELATION:
                        found.append(NearDuplicate(new, old, distance, value))
    return found


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
