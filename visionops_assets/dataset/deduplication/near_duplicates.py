"""Near duplicates among images: proposed by pHash (`candidate_pairs.py`), decided by what they show (`scenes.py`), and
what is in doubt by whether one is the other encoded or resized (`doubtful_pairs.py`).

Images of which neither a miniature nor details show anything, tiny or plain ones, are decided by their grey values.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from visionops_assets.common.arrow_columns import number_keys, release_memory
from visionops_assets.dataset.deduplication.candidate_pairs import Block, Hashes, Pairs
from visionops_assets.dataset.deduplication.doubtful_pairs import MadeOver
from visionops_assets.dataset.deduplication.image_views import ImagesAtHand, Load, Pair, Views, portions
from visionops_assets.dataset.deduplication.scenes import Scenes
from visionops_assets.images.phash import BITS, correlation, hashed

# Of grey images, one byte a pixel; and of images, so that small ones take no more the more there are.
_KEPT_BYTES = 64 << 20
_KEPT_IMAGES = 512
_PARTS_UNTIL_GIVEN_BACK = 16
# Of grey values, where nothing else shows.
MIN_CORRELATION = 0.99

# Newer, older, and how they correlate.
Copies = tuple[int, int, float]
Item = TypeVar("Item")


class NearDuplicate(NamedTuple):
    """Image number `newer` shows the same as number `older`."""

    newer: int
    older: int
    distance: int
    correlation: float


# Matrices of an image's size are multiplied slower by several threads, which wait for each other.
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
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
    (N, 32), `pixels` its size, and `sureties` those of the new ones' pHashes (`phash.hashed`), which are made of
    the images where they are not given. `load` gives those `Loaded` of the numbers asked for; what it
    leaves out is no duplicate of anything. Images with the same SHA-256 are duplicates without being looked at. At
    most 128 MiB of images, and 1,024 of them, or two images, are at hand at once.
    """
    same, sizes = number_keys(digests), np.asarray(pixels, np.int64)
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
                release_memory()
            comparison.add(some)
    found = [(*pair, 1.0) for pair in copied] + comparison.copies()
    return sorted(
        NearDuplicate(new, old, int(np.bitwise_count(phashes[new] ^ phashes[old])), alike)
        for new, old, alike in found
        if new >= first_new
    )


class Comparison:
    """What is known of pairs of images that were proposed."""

    def __init__(self, pixels: NDArray[np.int64], load: Load) -> None:
        self._at_hand = ImagesAtHand(pixels, load, _KEPT_BYTES, _KEPT_IMAGES)
        self._views = Views(pixels, load, _KEPT_BYTES)
        self._scenes = Scenes(len(pixels), self._views)
        self._made_over = MadeOver(self._scenes, self._views, self._at_hand)
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
        newer, older = self._made_over.pairs(self._scenes.copies()).T
        alike = self._views.correlation(newer, older)
        return sorted([*self._plain, *zip(newer.tolist(), older.tolist(), alike.tolist(), strict=True)])

    def _correlated(self, newer: NDArray[np.int64], older: NDArray[np.int64]) -> Iterator[Copies]:
        """Those of the pairs, of which nothing else can be compared, whose grey values correlate."""
        for new, old in self._at_hand.pairs(sorted(zip(newer.tolist(), older.tolist(), strict=True))):
            one, other = self._at_hand.grey(new), self._at_hand.grey(old)
            if one is not None and other is not None:
                value = correlation(one[..., None], other[..., None])
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
        for number, image, _ in load(some.tolist()):
            made[number - first_new] = hashed(image)[1]
    return made
