"""Pairs of images that their views leave in doubt: whether one is the other, encoded or resized.

Of a scene many images are in question for each: they are first compared on a few blocks, in one go, as they would be
had they been resized and quantised as the image was; the one that comes nearest is looked at (`exposures.py`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionops_assets.dataset import exposures
from visionops_assets.dataset.images_at_hand import ImagesAtHand, Pair
from visionops_assets.dataset.scenes import COMPARED_WITH, DOUBTED, Scenes
from visionops_assets.dataset.views import Views

# Neighbours that say how far other exposures are from an image.
_OTHERS = 8
# Sketches that are kept, 8 kB each.
_SKETCHES = 1 << 12

# Of which image, of which height and width, by which filter.
_Key = tuple[int, tuple[int, ...], int]


class MadeOver:
    """The pairs in doubt, of images whose neighbours are known."""

    def __init__(self, scenes: Scenes, views: Views, at_hand: ImagesAtHand) -> None:
        self._scenes, self._views, self._at_hand = scenes, views, at_hand
        self._sketches: dict[_Key, NDArray[np.float32] | None] = {}

    def pairs(self, known: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pairs of copies (newer, older), (P, 2): the known ones, (K, 2), but those that contradict what others are
        made of, and those of which one is the other encoded or resized."""
        chosen = {
            (max(image, other), min(image, other))
            for image, others in self._scenes.doubtful()
            for other in (others if len(others) <= DOUBTED else self._likeliest(image, others))
        }
        self._sketches.clear()
        copies: set[Pair] = {(new, old) for new, old in known.tolist()}
        doubtful = self._scenes.not_too_far(np.array(sorted(chosen - copies), np.int64).reshape(-1, 2))
        # Most are told without a look at their neighbours.
        maybe = [
            (new, old)
            for new, old in self._at_hand.pairs([(int(new), int(old)) for new, old in doubtful])
            if self._evidence(new, old, None, None) >= 0
        ]
        usual = self._usual_differences(maybe)
        found = {
            (new, old)
            for new, old in self._at_hand.pairs(maybe)
            if self._evidence(new, old, usual[new], usual[old]) >= exposures.ENOUGH
        }
        copies = self._not_contradicted(copies, found | (chosen & copies)) | found
        return np.array(sorted(copies), np.int64).reshape(-1, 2)

    def _not_contradicted(self, copies: set[Pair], made: set[Pair]) -> set[Pair]:
        """Copies by their views but those whose originals are known and no copies of each other: encoded until nothing
        is left of their noise, exposures of one scene become the same."""
        originals: dict[int, set[int]] = {}
        for pair in made:
            for image, other in (pair, pair[::-1]):
                if exposures.has_table(self._views.stored_as(image)):
                    originals.setdefault(image, set()).add(other)

        def of_one(pair: Pair) -> bool:
            if pair in made or not any(image in originals for image in pair):
                return True
            # What is quantised and of unknown origin may be a copy of any.
            if any(i not in originals and self._views.stored_as(i) != exposures.PLAIN for i in pair):
                return True
            one, other = (originals.get(image, {image}) for image in pair)
            return any(a == b or (max(a, b), min(a, b)) in copies for a in one for b in other)

        return {pair for pair in copies if of_one(pair)}

    def _likeliest(self, image: int, others: Sequence[int]) -> list[int]:
        """Which of many others, the most alike first and stored another way, an image was most likely made of."""
        stored = self._views.stored_as(image)
        if exposures.has_table(stored):
            return self._nearest(image, others, stored)
        resized = [other for other in others if self._views.differ_in_size(image, other)]
        # Of its own size it is the others that may be made of it, where it was not quantised.
        alike = [] if stored == exposures.PLAIN else [other for other in others if other not in resized]
        return alike[:DOUBTED] + self._nearest(image, resized, stored)

    def _nearest(self, image: int, others: Sequence[int], stored: int) -> list[int]:
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
        return [list(known)[exposures.nearest_by_sketch(own, np.stack(list(known.values())), stored)]]

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
        return exposures.evidence(one, other, of_new, of_old)
