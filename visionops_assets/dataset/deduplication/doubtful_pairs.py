"""Pairs of images that their views leave in doubt: whether one is the other, encoded or resized.

Of a scene many images are in question for each: they are first compared on a few blocks, in one go, as they would be
had they been resized and quantised as the image was; the one that comes nearest is looked at (`exposures.py`).
"""

from collections.abc import Iterable, Sequence, Set
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from edge.images.decode import Pixels
from visionops_assets.dataset.deduplication import exposures, forensics
from visionops_assets.dataset.deduplication.forensics import different_exposures
from visionops_assets.dataset.deduplication.image_views import ImagesAtHand, Pair, Views
from visionops_assets.dataset.deduplication.scenes import COMPARED_WITH, DOUBTED, Scenes

# Neighbours that say how far other exposures are from an image.
_OTHERS = 8
# Sketches that are kept, 8 kB each.
_SKETCHES = 1 << 12
# Images of one exposure that are compared with those of another.
_OF_A_FAMILY = 4

# Of which image, of which height and width, by which filter.
_Key = tuple[int, tuple[int, ...], int]


class MadeOver:
    """The pairs in doubt, of images whose neighbours are known."""

    def __init__(self, scenes: Scenes, views: Views, at_hand: ImagesAtHand) -> None:
        self._scenes, self._views, self._at_hand = scenes, views, at_hand
        self._sketches: dict[_Key, NDArray[np.float32] | None] = {}
        # What was found of pairs.
        self._different: dict[Pair, bool] = {}

    def pairs(self, known: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pairs of copies (newer, older), (P, 2): the known ones, (K, 2), but those that are different exposures or
        contradict what others are made of, and those of which one is the other encoded or resized."""
        claimed: set[Pair] = {(new, old) for new, old in known.tolist()}
        chosen = {
            (max(image, other), min(image, other))
            for image, others in self._scenes.doubtful()
            for other in (others if len(others) <= DOUBTED else self._likeliest(image, others))
        }
        self._sketches.clear()
        doubtful = self._scenes.not_too_far(np.array(sorted(chosen - claimed), np.int64).reshape(-1, 2))
        # Most are told without a look at their neighbours.
        maybe = [
            (new, old)
            for new, old in self._at_hand.pairs([(int(new), int(old)) for new, old in doubtful])
            if self._evidence(new, old, None, None) >= 0
        ]
        usual = self._usual_differences(maybe)
        made = {
            (new, old)
            for new, old in self._at_hand.pairs(maybe)
            if self._evidence(new, old, usual[new], usual[old]) >= exposures.ENOUGH
        }
        claimed = self._not_different(claimed)
        # Which of several an image was made of, what they are made of says; of two alone nothing does.
        made |= {
            pair
            for pair in self._at_hand.pairs(sorted(_of_open_groups(claimed | made) - made))
            if self._evidence(*pair, None, None) >= exposures.ENOUGH
        }
        copies = self._not_contradicted(claimed, made)
        return np.array(sorted(copies), np.int64).reshape(-1, 2)

    def _not_different(self, pairs: Iterable[Pair]) -> set[Pair]:
        """Those of pairs that are not of different exposures, by a look at both and, if need be, at their scene."""
        asked = set(pairs)
        new = sorted(asked - self._different.keys())
        left = [pair for pair in self._at_hand.pairs(new) if not self._are_different(pair, ())]
        for pair in left:
            near = self._of_their_scene(pair)
            if near:
                self._at_hand.prepare([*pair, *near])
                self._are_different(
                    pair, [grey for one in near if (grey := self._at_hand.grey(one)) is not None]
                )
            self._different.setdefault(pair, False)
        return {pair for pair in asked if not self._different[pair]}

    def _of_their_scene(self, pair: Pair) -> list[int]:
        """Neighbours of two images of one size that have their noise, by whom what they show beside it is known."""
        if self._views.differ_in_size(*pair) or not all(map(self._is_plain, pair)):
            return []
        near = {other for one in pair for other in self._scenes.nearest(one, _OTHERS)} - set(pair)
        alike = (one for one in near if self._is_plain(one) and not self._views.differ_in_size(one, pair[0]))
        return self._at_hand.beside(pair, sorted(alike))

    def _is_plain(self, image: int) -> bool:
        return self._views.stored_as(image) == forensics.PLAIN

    def _are_different(self, pair: Pair, others: Sequence[Pixels]) -> bool:
        """Whether two images at hand are of different exposures: they have noise of their own, or were stored by one
        table and differ, and neither is the other with other tones."""
        if pair not in self._different:
            one, other = map(self._at_hand.grey, pair)
            if one is None or other is None or one.shape != other.shape:
                return False
            by_noise = all(map(self._is_plain, pair)) and different_exposures(one, other, others)
            if not by_noise and not self._views.by_one_table(*pair):
                return False
            self._different[pair] = self._evidence(*pair, None, None) < 0
        return self._different[pair]

    def _not_contradicted(self, claimed: set[Pair], made: set[Pair]) -> set[Pair]:
        """The pairs `made` and the claimed ones, but those that would bring images together of which some are of
        different exposures: the likeliest first, last those stored alike, which encoding made more like each other."""

        def alike(pair: Pair) -> tuple[bool, float, Pair]:
            by_one_encoder = self._views.stored_as(pair[0]) == self._views.stored_as(pair[1])
            by_one_encoder &= not self._views.differ_in_size(*pair)
            return by_one_encoder, -self._views.likeness_of_two(*pair), pair

        family: dict[int, list[int]] = {}
        kept = set()
        for pair in [*sorted(made), *sorted(claimed - made, key=alike)]:
            mine, theirs = (family.setdefault(image, [image]) for image in pair)
            if mine is not theirs:
                if pair not in made and self._are_apart(mine, theirs):
                    continue
                mine += theirs
                family.update(dict.fromkeys(theirs, mine))
            kept.add(pair)
        return kept

    def _are_apart(self, ones: Sequence[int], others: Sequence[int]) -> bool:
        """Whether any of some images is of another exposure than any of others."""
        between = product(ones[:_OF_A_FAMILY], others[:_OF_A_FAMILY])
        pairs = {(max(pair), min(pair)) for pair in between}
        return len(self._not_different(pairs)) < len(pairs)

    def _likeliest(self, image: int, others: Sequence[int]) -> list[int]:
        """Which of many others, the most alike first and stored another way, an image was most likely made of."""
        stored = self._views.stored_as(image)
        if exposures.has_table(stored):
            return self._nearest(image, others)
        resized = [other for other in others if self._views.differ_in_size(image, other)]
        # Of its own size it is the others that may be made of it, where it was not quantised.
        alike = [] if stored == forensics.PLAIN else [other for other in others if other not in resized]
        return alike[:DOUBTED] + self._nearest(image, resized)

    def _nearest(self, image: int, others: Sequence[int]) -> list[int]:
        """The nearest of the others once they are resized and quantised as the image is; none of none."""
        if not others:
            return []
        self._at_hand.prepare([image, others[0]])
        shown, first = self._at_hand.grey(image), self._at_hand.grey(others[0])
        if shown is None or first is None:
            return []
        shape, how = shown.shape, exposures.filter_of(first, shown)
        if len(self._sketches) > _SKETCHES:
            self._sketches.clear()
        # What is sketched already is not loaded again.
        missing = [(image, other) for other in others if (other, shape, how) not in self._sketches]
        for _, other in self._at_hand.pairs(missing):
            pixels = self._at_hand.grey(other)
            made = None if pixels is None else exposures.sketch(pixels, shown, how)
            self._sketches[other, shape, how] = made
        known = {other: made for other in others if (made := self._sketches[other, shape, how]) is not None}
        own = exposures.sketch(shown, shown, 0)
        if own is None or not known:
            return []
        sketches, table = np.stack(list(known.values())), self._views.table(image)
        return [list(known)[exposures.nearest_by_sketch(own, sketches, table)]]

    def _usual_differences(self, maybe: Sequence[Pair]) -> dict[int, NDArray[np.float64] | None]:
        """How far each image of pairs is from its neighbours but those that it may be a copy of."""
        partners: dict[int, set[int]] = {}
        for new, old in maybe:
            partners.setdefault(new, {new}).add(old)
            partners.setdefault(old, {old}).add(new)
        found: dict[int, NDArray[np.float64] | None] = {}
        for image in sorted(partners):
            near = [one for one in self._scenes.nearest(image, _OTHERS) if one not in partners[image]]
            self._at_hand.prepare([image, *near])
            shown = self._at_hand.grey(image)
            others = [grey for one in near if (grey := self._at_hand.grey(one)) is not None]
            found[image] = None if shown is None else exposures.usual_difference(shown, others, COMPARED_WITH)
        return found

    def _evidence(
        self, new: int, old: int, of_new: NDArray[np.float64] | None, of_old: NDArray[np.float64] | None
    ) -> float:
        one, other = self._at_hand.grey(new), self._at_hand.grey(old)
        if one is None or other is None:
            return exposures.NO_EVIDENCE
        return exposures.evidence(
            exposures.Exposure(one, of_new, self._views.table_of_file(new)),
            exposures.Exposure(other, of_old, self._views.table_of_file(old)),
        )


def _of_open_groups(pairs: Set[Pair]) -> set[Pair]:
    """Those of pairs that bring images together of which some are no pair themselves."""
    if not pairs:
        return set()
    one, other = np.array(sorted(pairs)).T
    size = int(one.max()) + 1
    _, group = connected_components(
        coo_array((np.ones(len(one)), (one, other)), (size, size)), directed=False
    )
    images, held = np.bincount(group), np.bincount(group[one], minlength=int(group.max()) + 1)
    is_open = (held < images * (images - 1) // 2)[group[one]]
    return set(zip(one[is_open].tolist(), other[is_open].tolist(), strict=True))
