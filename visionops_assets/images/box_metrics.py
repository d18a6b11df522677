"""A detector's answers against the truths: COCO's matching and average precision, and the score from which boxes
are meant.

The rules of matching are those of Lin et al., "Microsoft COCO", 2014, and its `COCOeval`, which `faster-coco-eval`
repeats; so is the interpolation of average precision, for any weights of the images: the point values equal its own
(a test holds that to 1e-9). The least score is where F1 on the validation images is best, 2·hits / (boxes + truths)
over all classes together (van Rijsbergen, "Information Retrieval", 1979), a box being a hit as in mAP@0.5; it is
chosen once, by images that no weight was learnt from and no gate looks at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visionops_assets.images.box_geometry import Floats, iou

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

# COCO looks at no more of an image's answers of one class.
MOST_DETECTIONS = 100
# Of a box and its truth, as in mAP@0.5.
OVERLAP = 0.5
ALL_AREAS = (0.0, float("inf"))
# How often each image counts; counts of draws fit a byte.
Weights = NDArray[np.float64] | NDArray[np.uint8]
_RECALLS = np.linspace(0.0, 1.0, 101)
_SMALLEST = np.spacing(1.0)
# Draws are taken in pieces, so that no array has more numbers than this.
_NUMBERS_AT_ONCE = 4_000_000
# Hundredths: a runtime's rounding of scores cannot move the choice.
_GRID = np.arange(1, 100) / 100


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
        overlap = iou(self._answers.boxes[answer], truths.boxes[truth])
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


def average_precisions(matches: Matches, weights: Weights, *, smooth: bool = False) -> Floats:
    """101-point average precision [draws] of one class, counting each image as often as weights [draws, images] say.

    `smooth` gives the area below the same curve instead, without COCO's 101 steps: nearly the same number, but one
    that has a derivative. NaN where a draw has nothing to find.
    """
    found = np.full(len(weights), np.nan)
    hits = np.flatnonzero(matches.hits)
    # What follows the last hit changes nothing.
    images = matches.images[: hits[-1] + 1] if len(hits) else matches.images[:0]
    placed = np.flatnonzero(matches.truths)
    step = max(1, _NUMBERS_AT_ONCE // max(1, len(images), len(placed)))
    for start in range(0, len(weights), step):
        part = weights[start : start + step]
        wanted = part[:, placed] @ matches.truths[placed]
        drawn = part[:, images]
        answers = np.cumsum(drawn, axis=1, dtype=np.float64)[:, hits]
        correct = np.cumsum(drawn[:, hits], axis=1, dtype=np.float64)
        # Between two hits precision only falls, so its peaks are at the hits.
        precision = correct / (answers + _SMALLEST)
        best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = correct / wanted[:, None]
        steps = recall if smooth else np.searchsorted(_RECALLS, recall, side="right") / len(_RECALLS)
        average = (best_from_here * np.diff(steps, axis=1, prepend=0.0)).sum(axis=1)
        found[start : start + step] = np.where(wanted > 0, average, np.nan)
    return found


def mean_average_precisions(
    by_class: Sequence[Sequence[Matches]], weights: Weights, *, smooth: bool = False
) -> Floats:
    """Mean over the classes (and overlaps) that a draw has truths of [draws]; NaN where it has none.

    `by_class` holds one list of classes for each overlap.
    """
    values = [
        average_precisions(matches, weights, smooth=smooth) for overlap in by_class for matches in overlap
    ]
    stacked = np.stack(values)
    present = np.isfinite(stacked)
    counts = present.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(
            counts > 0, np.where(present, stacked, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan
        )


class ScoreThreshold(NamedTuple):
    """The least score of a box that is meant, and the F1 that it gives."""

    min_score: float
    f1: float


def best_threshold(
    scores: NDArray[np.float64], hits: NDArray[np.bool_], truths: int
) -> ScoreThreshold | None:
    """The threshold of the best F1, in the middle of the longest stretch that has it.

    `scores` and `hits` are of all boxes, `truths` how many there were to find. None where no box hits anything.
    """
    if not hits.any():
        return None
    order = np.argsort(scores, kind="stable")
    left_out = np.searchsorted(scores[order], _GRID, side="left")
    found = np.concatenate([np.cumsum(hits[order][::-1])[::-1], [0]])[left_out]
    f1 = 2 * found / (len(scores) - left_out + truths)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    stretches = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    longest = max(stretches, key=len)
    return ScoreThreshold(float(_GRID[longest[len(longest) // 2]]), float(f1.max()))
