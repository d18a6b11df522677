"""Near duplicates among images: proposed by pHash (`proposals.py`), decided by what they show (`scenes.py`), and what
is in doubt by whether one is the other encoded or resized (`exposures.py`).

Images of which neither a miniature nor details show anything, tiny or plain ones, are decided by their grey values.
"""

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edge.decode import Pixels
from visionops_assets.dataset import exposures
from visionops_assets.dataset.arrow_memory import give_back
from visionops_assets.dataset.duplicates import BITS, correlation, hashed
from visionops_assets.dataset.groups import numbered
from visionops_assets.dataset.proposals import Block, Hashes, Pairs
from visionops_assets.dataset.scenes import COMPARED_WITH, Scenes
from visionops_assets.dataset.views import Views, portions

# Of grey images, one byte a pixel; and of images, so that small ones take no more the more there are.
_KEPT_BYTES = 64 << 20
_KEPT_IMAGES = 512
_PARTS_UNTIL_GIVEN_BACK = 16
# Of grey values, where nothing else shows.
MIN_CORRELATION = 0.99
# Neighbours that say how far other exposures are from an image.
_OTHERS = 8

# Newer, older; and how they correlate.
Pair = tuple[int, int]
Copies = tuple[int, int, float]
Load = Callable[[Sequence[int]], Iterator[tuple[int, Pixels]]]
Item = TypeVar("Item")


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
    sureties: NDArray[np.int8] | None = None,
) -> list[NearDuplicate]:
    """The pairs of near duplicates of which at least the newer one is new, by newer, then older.

    Images are numbered from oldest to newest, those from `first_new` on are new; `digests` is the SHA-256 of each,
    (N, 32), `pixels` its size, and `sureties` those of the new ones' pHashes (`duplicates.hashed`), which are made of
    the images where they are not given. `load` gives (number, grey uint8 (H, W, 1)) for the numbers asked for; what it
    leaves out is no duplicate of anything. Images with the same SHA-256 are duplicates without being looked at. At
    most 128 MiB of images, and 1,024 of them, or two images, are at hand at once.
    """
    same, sizes = numbered(digests), np.asarray(pixels, np.int64)
    if sureties is None:
        sureties = _sureties(first_new, sizes, load)
    comparison = Comparison(sizes, load)
    copied: list[Pair] = []

    def told_apart() -> Iterator[Block | Pairs]:
        """What is proposed without copies, each image looked at."""
        for some in Hashes(phashes, sureties, sizes, first_new).proposed():
            rest, copies = _without_copies(some, same)
            copied.extend(copies)
            comparison.prepare(rest)
            yield rest

    with closing(_one_ahead(told_apart())) as looked_at:
        for number, some in enumerate(looked_at):
            if number % _PARTS_UNTIL_GIVEN_BACK == 0:
                give_back()
            comparison.add(some)
    found = [(*pair, 1.0) for pair in copied] + comparison.copies()
    return sorted(
        NearDuplicate(new, old, int(np.bitwise_count(phashes[new] ^ phashes[old])), alike)
        for new, old, alike in found
        if new >= first_new
    )


@threadpool_limits.wrap(limits=1, user_api="blas")
def near_duplicates_among(
    ones: NDArray[np.int64], others: NDArray[np.int64], pixels: NDArray[np.int64], load: Load
) -> list[Copies]:
    """Those of pairs of images (P,) that are near duplicates, in order; `pixels` and `load` as above."""
    comparison = Comparison(pixels, load)
    older, newer = np.unique(np.sort(np.stack([ones, others], axis=1), axis=1), axis=0).T
    pairs = Pairs(newer, older)
    comparison.prepare(pairs)
    comparison.add(pairs)
    return comparison.copies()


class Comparison:
    """What is known of pairs of images that were proposed."""

    def __init__(self, pixels: NDArray[np.int64], load: Load) -> None:
        self._pixels, self._kept = pixels, _Kept(load)
        self._views = Views(pixels, load, _KEPT_BYTES)
        self._scenes = Scenes(len(pixels), self._views)
        self._plain: list[Copies] = []

    def prepare(self, some: Block | Pairs) -> None:
        """Look at the images of what is proposed."""
        self._scenes.prepare(some)

    def add(self, some: Block | Pairs) -> None:
        """Look at what is proposed, each pair once."""
        left = self._scenes.add(some)
        self._plain += self._correlated(left.newer, left.older)

    def copies(self) -> list[Copies]:
        """The near duplicates as (newer, older, correlation), in order."""
        newer, older = np.concatenate([self._scenes.copies(), self._made_over()]).T
        alike = self._views.correlation(newer, older)
        return sorted([*self._plain, *zip(newer.tolist(), older.tolist(), alike.tolist(), strict=True)])

    def _made_over(self) -> NDArray[np.int64]:
        """Those pairs in doubt of which one is the other encoded or resized, (P, 2)."""
        found = []
        doubtful = [(int(newer), int(older)) for newer, older in self._scenes.doubtful()]
        for some in _portions(doubtful, self._pixels):
            self._kept.prepare([one for pair in some for one in pair])
            # Most are told without a look at their neighbours.
            found += [pair for pair in some if self._evidence(*pair, None, None) >= 0]
        maybe, found = found, []
        usual = self._usual_differences(maybe)
        for some in _portions(maybe, self._pixels):
            self._kept.prepare([one for pair in some for one in pair])
            for new, old in some:
                if self._evidence(new, old, usual[new], usual[old]) >= exposures.ENOUGH:
                    found.append((new, old))
        return np.array(found, np.int64).reshape(-1, 2)

    def _usual_differences(self, maybe: Sequence[Pair]) -> dict[int, NDArray[np.float64] | None]:
        """How far each image of pairs is from its neighbours but those that it may be a copy of."""
        partners: dict[int, set[int]] = {}
        for new, old in maybe:
            partners.setdefault(new, {new}).add(old)
            partners.setdefault(old, {old}).add(new)
        found: dict[int, NDArray[np.float64] | None] = {}
        for image in sorted(partners):
            near = [one for one in self._scenes.nearest(image, _OTHERS) if one not in partners[image]]
            self._kept.prepare([image, *near])
            shown = self._grey(image)
            others = [grey for one in near if (grey := self._grey(one)) is not None]
            found[image] = None if shown is None else exposures.usual_difference(shown, others, COMPARED_WITH)
        return found

    def _evidence(
        self, new: int, old: int, of_new: NDArray[np.float64] | None, of_old: NDArray[np.float64] | None
    ) -> float:
        one, other = self._grey(new), self._grey(old)
        if one is None or other is None:
            return exposures.NO_EVIDENCE
        return exposures.evidence(one, other, of_new, of_old)

    def _grey(self, number: int) -> Pixels | None:
        pixels = self._kept.get(number)
        return None if pixels is None else pixels[..., 0]

    def _correlated(self, newer: NDArray[np.int64], older: NDArray[np.int64]) -> Iterator[Copies]:
        """Those of the pairs, of which nothing else can be compared, whose grey values correlate."""
        pairs = sorted(zip(newer.tolist(), older.tolist(), strict=True))
        for some in _portions(pairs, self._pixels):
            self._kept.prepare([one for pair in some for one in pair])
            for new, old in some:
                one, other = self._kept.get(new), self._kept.get(old)
                if one is not None and other is not None:
                    value = correlation(one, other)
                    if value >= MIN_CORRELATION:
                        yield new, old, value


def _without_copies(some: Block | Pairs, same: NDArray[np.int32]) -> tuple[Block | Pairs, list[Pair]]:
    """What is proposed but for images with the same bytes, which have the same number; and these, as pairs."""
    newer, older = some.newer, some.older
    if isinstance(some, Pairs):
        equal = same[newer] == same[older]
        left: Block | Pairs = Pairs(newer[~equal], older[~equal])
        newer, older = newer[equal], older[equal]
    else:
        equal = some.maybe & (same[newer][:, None] == same[older])
        left = Block(newer, older, some.maybe & ~equal)
        rows, columns = np.divmod(np.flatnonzero(equal), len(older))
        newer, older = newer[rows], older[columns]
    return left, list(zip(newer.tolist(), older.tolist(), strict=True))


def _one_ahead(items: Iterator[Item]) -> Generator[Item]:
    """The items, each made while the one before is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix="near-duplicates") as other:
        coming = other.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = other.submit(next, items, None)
            yield item


def _sureties(first_new: int, pixels: NDArray[np.int64], load: Load) -> NDArray[np.int8]:
    """Those of the images from `first_new` on."""
    made = np.zeros((len(pixels) - first_new, BITS), np.int8)
    for some in portions(np.arange(first_new, len(pixels)), pixels, _KEPT_BYTES):
        for number, image in load(some.tolist()):
            made[number - first_new] = hashed(image)[1]
    return made


def _portions(pairs: Sequence[Pair], pixels: NDArray[np.int64]) -> Iterator[list[Pair]]:
    """The pairs in order, each portion of at most `_KEPT_BYTES` and `_KEPT_IMAGES`, or one pair."""
    portion: list[Pair] = []
    images: set[int] = set()
    total = 0
    for pair in pairs:
        more = sum(pixels[one] for one in set(pair) - images)
        if portion and (total + more > _KEPT_BYTES or len(images) > _KEPT_IMAGES - 2):
            yield portion
            portion, images, total = [], set(), 0
            more = sum(pixels[one] for one in pair)
        portion.append(pair)
        images |= set(pair)
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
