"""A detector's answers against the truths, by COCO's rules of matching.

Lin et al., "Microsoft COCO", 2014, and its `COCOeval`, which `faster-coco-eval` repeats.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionops_assets.dataset.overlaps import Floats, overlaps

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

# COCO looks at no more of an image's answers of one class.
MOST_DETECTIONS = 100
ALL_AREAS = (0.0, float("inf"))


@dataclass(frozen=True)
class Boxes:
    """Boxes of many images: image number [n], class number [n], left, top, width, height [n, 4], score [n]."""

    images: Ints
    labels: Ints
    boxes: Floats
    scores: Floats

    @property
    def areas(self) -> Floats:
        """Width times height [n]."""
        return self.boxes[:, 2] * self.boxes[:, 3]

    def of(self, chosen: Mask | Ints) -> "Boxes":
        """The boxes that a mask or an index keeps."""
        return Boxes(self.images[chosen], self.labels[chosen], self.boxes[chosen], self.scores[chosen])


@dataclass(frozen=True)
class Matches:
    """The answers of one class at one overlap, best first: image [n] and whether it hit a truth [n].

    `truths` [images] counts what there was to find.
    """

    images: Ints
    hits: Mask
    truths: Floats

    def of(self, images: Mask) -> "Matches":
        """What is left when only the images of a mask [images] count."""
        kept = images[self.images]
        return Matches(self.images[kept], self.hits[kept], np.where(images, self.truths, 0.0))


class Matching:
    """Answers beside the truths of their image and class: overlaps are computed once, then matched at any threshold."""

    def __init__(self, truths: Boxes, answers: Boxes, *, images: int, classes: int) -> None:
        self._truths, self._images, self._classes = truths, images, classes
        order = np.lexsort((-answers.scores, answers.images, answers.labels))
        places = answers.labels[order] * images + answers.images[order]
        firsts = np.flatnonzero(np.diff(places, prepend=-1))
        ranks = np.arange(len(order)) - np.repeat(firsts, np.diff(firsts, append=len(order)))
        kept = ranks < MOST_DETECTIONS
        # Within an image and class best first, so that each answer chooses before those below it.
        self._answers, places = answers.of(order[kept]), places[kept]
        self._best = np.lexsort((-self._answers.scores, self._answers.labels))

        by_place = np.argsort(truths.labels * images + truths.images, kind="stable")
        truth_places = (truths.labels * images + truths.images)[by_place]
        first, end = (np.searchsorted(truth_places, places, side=side) for side in ("left", "right"))
        beside = end - first
        answer = np.repeat(np.arange(len(places)), beside)
        within = np.arange(len(answer)) - np.repeat(np.cumsum(beside) - beside, beside)
        truth = by_place[np.repeat(first, beside) + within]
        overlap = overlaps(self._answers.boxes[answer], truths.boxes[truth])
        touching = overlap > 0
        self._answer, self._truth, self._overlap = answer[touching], truth[touching], overlap[touching]

    def at(self, least_overlap: float, areas: tuple[float, float] = ALL_AREAS) -> list[Matches]:
        """Match at a threshold above 0; one entry a class.

        Each answer, best first, takes the truth of its image and class that it overlaps most and that is still free. A
        truth whose area is outside `areas` (from, below) is neither to be found nor an error to find, and an answer
        outside of them that finds nothing is left out.
        """
        inside = _within(self._truths.areas, areas)
        hit, ignored = self._assigned(inside, min(least_overlap, 1 - 1e-10))
        ignored |= ~hit & ~_within(self._answers.areas, areas)
        hit &= ~ignored
        counted = self._best[~ignored[self._best]]
        found = []
        for label in range(self._classes):
            mine = counted[self._answers.labels[counted] == label]
            wanted = np.bincount(
                self._truths.images[inside & (self._truths.labels == label)], minlength=self._images
            )
            found.append(Matches(self._answers.images[mine], hit[mine], wanted.astype(np.float64)))
        return found

    def scored(self, least_overlap: float) -> tuple[Floats, Mask]:
        """The score of every answer and whether it hits a truth [n]; what scores lower changes no hit."""
        everything = np.ones(len(self._truths.labels), bool)
        return self._answers.scores, self._assigned(everything, least_overlap)[0]

    def _assigned(self, inside: Mask, least: float) -> tuple[Mask, Mask]:
        """Which answers take a truth, and which of them one that does not count, [answers] each."""
        reached = np.flatnonzero(self._overlap >= least)
        answer, truth = self._answer[reached], self._truth[reached]
        # A truth that counts is preferred to one that does not; of equal overlaps COCO takes the last.
        order = np.lexsort((-reached, -self._overlap[reached], ~inside[truth], answer))
        taken: dict[int, int] = {}
        free = [True] * len(inside)
        for one, other in zip(answer[order].tolist(), truth[order].tolist(), strict=True):
            if free[other] and one not in taken:
                taken[one] = other
                free[other] = False
        hit, uncounted = (np.zeros(len(self._answers.labels), bool) for _ in range(2))
        chosen = np.fromiter(taken.keys(), np.int64, len(taken))
        hit[chosen] = True
        uncounted[chosen] = ~inside[np.fromiter(taken.values(), np.int64, len(taken))]
        return hit, uncounted


def _within(values: Floats, areas: tuple[float, float]) -> Mask:
    return (values >= areas[0]) & (values < areas[1])
