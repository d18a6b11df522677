"""Copies among images that are alike: what shares more than the scene.

Exposures of one part under one camera correlate above 0.99, as copies do. What they share is the scene: the mean of
an image's nearest neighbours. With it taken away, their details (`similarity.py`) do not correlate, and those of a
copy do, clearly more than those of the fourth most alike: far enough that a copy or two do not count. Neighbours are
of the same position where a camera that shakes makes scenes within the scene.

Small images have no details. There the distance to a neighbour, what is left when one is fitted to the other
(`similarity.py`), is compared with that to a fourth nearest, the image's own or the neighbour's: handwritten digits of
one class are about equally far from each other, where a copy is much nearer. Outside of a scene a fixed distance
decides too. An image is of a scene where it has more such neighbours than anybody makes copies.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visionops_assets.dataset.deduplication import similarity
from visionops_assets.dataset.deduplication.candidate_pairs import FEW, Block, Pairs
from visionops_assets.dataset.deduplication.image_views import LEVELS, NO_LEVEL, UNSEEN, Views
from visionops_assets.dataset.deduplication.similarity import Nearest

# Neighbours that are kept of each image, and the rank of the one that the others are compared with.
KEPT, COMPARED_WITH = 24, 4
# And those that are stored another way, where details decide: copies by the same table crowd each other.
KEPT_OTHERWISE = 64
# Here no exposures of one scene are so alike; on the smaller level those of a scene are, if it has so many.
_TOLD_FROM_ALL = (128,)
# Of miniatures in a scene, the share of the distance to the fourth nearest.
NEARER = 0.75
# Others with the same marks are farther apart in their miniatures.
_SHOW_THE_SAME_WITHIN = dict.fromkeys(similarity.MINIATURE_SIDES, 0.7)
# How far copies are apart in the largest miniature that both have, however they were resized and encoded.
_MADE_OVER_WITHIN = {32: 0.4, 16: 0.5, 8: 0.65, 6: 0.65}
# Miniatures that correlate by less are not fitted to each other.
_FITTED_FROM = 0.8
_IMAGES_AT_ONCE = 1 << 6
_NO_SCENE = 1e-6


class Limits(NamedTuple):
    """How far copies are apart at most: `alike` outside of a scene, `always`, and of tiny miniatures `far` where that
    is within a share `nearer` of the distance to the fourth nearest."""

    alike: float
    always: float
    nearer: float = 0.0
    far: float = 0.0


# By level; of details a distance is 1 less the correlation, of miniatures what is left after a fit.
LIMITS = {
    128: Limits(0.315, 0.03),
    64: Limits(0.14, 0.005),
    32: Limits(0.13, 0.02, 0.6, 0.25),
    16: Limits(0.13, 0.02, 0.6, 0.25),
    8: Limits(0.15, 0.02, 0.65, 0.3),
    6: Limits(0.13, 0.02, 0.6, 0.2),
}
# The rank of a neighbour that comes behind all copies that people make, and the share of the distance to it.
BEHIND_COPIES, BEHIND_NEARER = 12, 0.5
# Correlation of details without the scene: that of copies, above the fourth of all; the second where an image has
# fewer neighbours than are kept, so that the scene is known less well; and that of copies however many there are.
MORE_THAN_THE_FOURTH, WHERE_FEW, ALWAYS = 0.2, 0.36, 0.9
# Neighbours of an image that are doubted, and how alike they are at least.
DOUBTED, DOUBTED_FROM = 2, 0.5


class Neighbours(Nearest):
    """The nearest of so many images on one level, and those of them that are stored another way."""

    def __init__(self, count: int, level: int) -> None:
        super().__init__(count, KEPT)
        self.level = level
        self.otherwise = Nearest(count, KEPT_OTHERWISE if level in similarity.DETAIL_LEVELS else DOUBTED)
        # Which of them are copies, as soon as that is asked for.
        self._copies: NDArray[np.bool_] | None = None

    def look_at(self, ones: NDArray[np.int64], others: NDArray[np.int64], views: Views) -> None:
        """Look at pairs (P,), each pair once."""
        self._copies = None
        alike = views.likeness(ones, others, self.level)
        self.add(ones, others, alike)
        apart = views.may_be_made_over(ones, others, self.level)
        if apart.any():
            self.otherwise.add(ones[apart], others[apart], alike[apart])

    def look_at_block(
        self, ones: NDArray[np.int64], others: NDArray[np.int64], maybe: NDArray[np.bool_], views: Views
    ) -> None:
        """Look at the pairs that `maybe` (N, M) has of images `ones` (N,) and `others` (M,), each pair once."""
        self._copies = None
        alike = views.likeness_of_all(ones, others, self.level)
        self.add_block(ones, others, alike, maybe)
        apart = maybe & views.may_be_made_over(ones[:, None], others, self.level)
        if apart.any():
            self.otherwise.add_block(ones, others, alike, apart)

    def copies(self, views: Views) -> NDArray[np.int64]:
        """The pairs of copies as (newer, older), in order, (P, 2)."""
        pairs = self._pairs(self._near(views))
        return pairs[_within(_SHOW_THE_SAME_WITHIN, pairs, views)]

    def doubtful(self, views: Views) -> Iterator[tuple[int, list[int]]]:
        """Images that have no copy by their view, or may have a better one, with their most alike neighbours that are
        stored another way."""
        images, known = self.otherwise.images, len(self.otherwise.images)
        # An image that was found to be a copy of one stored another way is in its group already.
        pairs = self._pairs(self._near(views))
        found = np.isin(images, pairs[views.may_be_made_over(pairs[:, 0], pairs[:, 1], self.level)])
        if self.level in similarity.DETAIL_LEVELS:
            # Unless that is another copy, or an exposure that was encoded until it was the same.
            found &= ~views.show_their_table(images)
        may_be = self.otherwise.likeness[:known] >= DOUBTED_FROM
        for row in np.flatnonzero(may_be[:, 0] & ~found).tolist():
            yield int(images[row]), self.otherwise.numbers[row, may_be[row]].tolist()

    def _near(self, views: Views) -> NDArray[np.bool_]:
        """Which neighbours of the images that have any are copies by their views, (R, KEPT)."""
        if self._copies is None:
            known = len(self.images)
            near = (
                self._near_in_details if self.level in similarity.DETAIL_LEVELS else self._near_in_miniatures
            )
            self._copies = near(self.numbers[:known], self.likeness[:known], views)
        return self._copies

    def _pairs(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        rows, ranks = np.nonzero(chosen)
        pairs = np.stack([self.images[rows], self.numbers[rows, ranks]], axis=1)
        return np.unique(np.sort(pairs, axis=1)[:, ::-1], axis=0)

    def _near_in_details(
        self, numbers: NDArray[np.int32], likeness: NDArray[np.float32], views: Views
    ) -> NDArray[np.bool_]:
        limits = LIMITS[self.level]
        # Whose neighbours are fewer than a scene has, and fewer than are kept: of both of a pair.
        alone, few = (
            (last := numbers[:, rank] < 0)[:, None] & last[self.rows[numbers]]
            for rank in (COMPARED_WITH, KEPT - 1)
        )
        told = few if self.level in _TOLD_FROM_ALL else alone
        apart = np.where(told, limits.alike, np.where(few, limits.always, -1.0))
        alike: NDArray[np.bool_] = 1 - likeness <= apart
        enough = np.flatnonzero(numbers[:, COMPARED_WITH] >= 0)
        for start in range(0, len(enough), _IMAGES_AT_ONCE):
            rows = enough[start : start + _IMAGES_AT_ONCE]
            more = self._more_than_the_scene(self.images[rows], numbers[rows], views)
            fourth = np.sort(more, axis=1)[:, -COMPARED_WITH, None]
            full = numbers[rows, -1, None] >= 0
            least = fourth + np.where(full, MORE_THAN_THE_FOURTH, WHERE_FEW)
            alike[rows] |= (more >= least) | (more >= ALWAYS)
        return alike & (numbers >= 0)

    def _more_than_the_scene(
        self, images: NDArray[np.int64], numbers: NDArray[np.int32], views: Views
    ) -> NDArray[np.float32]:
        """How the details of images (R,) correlate with those of their neighbours (R, KEPT) when what the other
        neighbours have in common is taken from both; -1 where there is no neighbour."""
        there = numbers >= 0
        own = views.unit(images, self.level)
        theirs = np.zeros((*numbers.shape, own.shape[1]), np.float32)
        theirs[there] = views.unit(numbers[there].astype(np.int64), self.level)
        both = np.concatenate([own[:, None], theirs], axis=1)
        products = both @ both.transpose(0, 2, 1)
        among = products[:, 1:, 1:]
        # The scene is the sum of the neighbours but the one that is compared.
        with_own = products[:, 0, 1:].sum(axis=1)[:, None] - products[:, 0, 1:]
        with_theirs = among.sum(axis=2) - there
        square = among.sum(axis=(1, 2))[:, None] - 2 * with_theirs - there
        square = np.maximum(square, _NO_SCENE)
        shared = products[:, 0, 1:] - with_own * with_theirs / square
        left = (1 - with_own**2 / square) * (1 - with_theirs**2 / square)
        return np.where(there, shared / np.sqrt(np.maximum(left, _NO_SCENE)), -1).astype(np.float32)

    def _near_in_miniatures(
        self, numbers: NDArray[np.int32], likeness: NDArray[np.float32], views: Views
    ) -> NDArray[np.bool_]:
        limits, distance = LIMITS[self.level], np.full(numbers.shape, np.inf)
        rows, ranks = np.nonzero(likeness >= _FITTED_FROM)
        distance[rows, ranks] = views.differences(
            self.images[rows], numbers[rows, ranks].astype(np.int64), self.level
        )
        ordered = np.sort(distance, axis=1)

        def of_both(rank: int) -> NDArray[np.float64]:
            """The distance to the neighbour of a rank, the nearer one's of a pair."""
            # Each of a pair is among the images that have neighbours.
            at = ordered[:, rank - 1]
            found: NDArray[np.float64] = np.minimum(at[:, None], at[self.rows[numbers]])
            return found

        # Where the fourth is a copy itself, those that come behind all copies tell, if there are any.
        fourth, behind = of_both(COMPARED_WITH), of_both(BEHIND_COPIES)
        # More neighbours than anybody makes copies.
        crowded = ordered[:, BEHIND_COPIES - 1] <= limits.alike
        scene = crowded[:, None] | crowded[self.rows[numbers]]
        alike = np.where(scene, np.minimum(NEARER * fourth, limits.alike), limits.alike)
        shares = [limits.nearer * fourth, BEHIND_NEARER * behind]
        nearer = np.max([np.where(np.isfinite(share), share, 0.0) for share in shares], axis=0)
        nearer = np.minimum(nearer, limits.far)
        found: NDArray[np.bool_] = distance <= np.maximum(np.maximum(nearer, alike), limits.always)
        return found


def _within(limits: Mapping[int, float], pairs: NDArray[np.int64], views: Views) -> NDArray[np.bool_]:
    """Whether the largest miniatures of pairs (P, 2) are no farther apart than the limit of their side, (P,); of those
    that have none nothing says so."""
    near = np.ones(len(pairs), bool)
    sides = views.shared_miniature(pairs[:, 0], pairs[:, 1])
    for side in np.unique(sides[sides > 0]).tolist():
        here = np.flatnonzero(sides == side)
        near[here] = views.differences(pairs[here, 0], pairs[here, 1], side) <= limits[side]
    return near


class Scenes:
    """The neighbours that images have on every level, and the copies among them."""

    def __init__(self, count: int, views: Views) -> None:
        self._count, self._views = count, views
        self._levels: dict[int, Neighbours] = {}

    def prepare(self, some: Block | Pairs) -> None:
        """Look at the images of pairs. May be done by another thread than what else is here."""
        newer, older = some.newer, some.older
        if isinstance(some, Block):
            newer, older = newer[some.maybe.any(axis=1)], older[some.maybe.any(axis=0)]
        self._views.prepare(np.union1d(newer, older))

    def add(self, some: Block | Pairs) -> Pairs:
        """Compare pairs of images that were looked at; returns those that have nothing to be compared by."""
        if isinstance(some, Block):
            return self._add_block(some)
        levels = self._views.levels(some.newer, some.older)
        for level in np.intersect1d(levels, LEVELS).tolist():
            here = levels == level
            self._add_pairs(some.newer[here], some.older[here], level)
        left = levels == NO_LEVEL
        return Pairs(some.newer[left], some.older[left])

    def _add_block(self, block: Block) -> Pairs:
        newer, older = block.newer, block.older
        levels = np.where(block.maybe, self._views.levels(newer[:, None], older), UNSEEN)
        for level in LEVELS:
            here = levels == level
            pairs = np.count_nonzero(here)
            if not pairs:
                continue
            rows, columns = np.flatnonzero(here.any(axis=1)), np.flatnonzero(here.any(axis=0))
            if pairs * FEW < len(rows) * len(columns):
                row, column = np.divmod(np.flatnonzero(here), len(older))
                self._add_pairs(newer[row], older[column], level)
            else:
                part = here if here.shape == (len(rows), len(columns)) else here[np.ix_(rows, columns)]
                self._level(level).look_at_block(newer[rows], older[columns], part, self._views)
        rows, columns = np.divmod(np.flatnonzero(levels == NO_LEVEL), len(older))
        return Pairs(newer[rows], older[columns])

    def _add_pairs(self, ones: NDArray[np.int64], others: NDArray[np.int64], level: int) -> None:
        self._level(level).look_at(ones, others, self._views)

    def _level(self, level: int) -> Neighbours:
        if level not in self._levels:
            self._levels[level] = Neighbours(self._count, level)
        return self._levels[level]

    def copies(self) -> NDArray[np.int64]:
        """The pairs of copies as (newer, older), (P, 2)."""
        found = [neighbours.copies(self._views) for neighbours in self._levels.values()]
        return np.concatenate([np.zeros((0, 2), np.int64), *found])

    def doubtful(self) -> Iterator[tuple[int, list[int]]]:
        """Images that only a look at them decides about, with those that each may be a copy of or have as its copy, the
        most alike first; an image may come on several levels."""
        for level in sorted(self._levels):
            yield from self._levels[level].doubtful(self._views)

    def not_too_far(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of pairs (P, 2) that encoding and resizing may have taken so far apart."""
        return pairs[_within(_MADE_OVER_WITHIN, pairs, self._views)]

    def nearest(self, image: int, most: int) -> list[int]:
        """Some of the most alike neighbours of an image, from the level where it has most."""
        found = [neighbours.of(image) for neighbours in self._levels.values()]
        given: list[int] = max(found, key=len, default=np.zeros(0, np.int32))[:most].tolist()
        return given
