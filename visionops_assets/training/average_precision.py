"""Average precision of boxes as COCO defines it, matched once and then computed for any weights of the images.

Rules of matching and interpolation: Lin et al., "Microsoft COCO", 2014, and its `COCOeval`, which `faster-coco-eval`
repeats; the point values equal its own (a test holds that to 1e-9).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# How often each image counts; counts of draws fit a byte.
Weights = NDArray[np.float64] | NDArray[np.uint8]

# COCO looks at no more of an image's answers of one class.
MOST_DETECTIONS = 100
_RECALLS = np.linspace(0.0, 1.0, 101)
_SMALLEST = np.spacing(1.0)
# Draws are taken in pieces, so that no array has more numbers than this.
_NUMBERS_AT_ONCE = 4_000_000


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

    def of(self, chosen: NDArray[np.bool_] | Ints) -> "Boxes":
        """The boxes that a mask or an index keeps."""
        return Boxes(self.images[chosen], self.labels[chosen], self.boxes[chosen], self.scores[chosen])


@dataclass(frozen=True)
class Matches:
    """The answers of one class at one overlap, best first: image [n] and whether it hit a truth [n].

    `truths` [images] counts what there was to find.
    """

    images: Ints
    hits: NDArray[np.bool_]
    truths: Floats

    def of(self, images: NDArray[np.bool_]) -> "Matches":
        """What is left when only the images of a mask [images] count."""
        kept = images[self.images]
        return Matches(self.images[kept], self.hits[kept], np.where(images, self.truths, 0.0))


def overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union [a, b] of boxes [a, 4] and [b, 4] (left, top, width, height)."""
    left = np.maximum(one[:, None, 0], other[None, :, 0])
    top = np.maximum(one[:, None, 1], other[None, :, 1])
    right = np.minimum(one[:, None, 0] + one[:, None, 2], other[None, :, 0] + other[None, :, 2])
    bottom = np.minimum(one[:, None, 1] + one[:, None, 3], other[None, :, 1] + other[None, :, 3])
    shared = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    union = (one[:, 2] * one[:, 3])[:, None] + (other[:, 2] * other[:, 3])[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def match(
    truths: Boxes,
    answers: Boxes,
    *,
    images: int,
    classes: int,
    least_overlap: float,
    areas: tuple[float, float] = (0.0, np.inf),
) -> list[Matches]:
    """Match answers to truths, class by class.

    Each answer, best first, takes the truth of its image and class that it overlaps most and that is still free. A
    truth whose area is outside `areas` (from, below) is neither to be found nor an error to find, and an answer
    outside of them that finds nothing is left out.
    """
    inside = (truths.areas >= areas[0]) & (truths.areas < areas[1])
    outside = (answers.areas < areas[0]) | (answers.areas >= areas[1])
    by_place: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, place in enumerate(zip(truths.images.tolist(), truths.labels.tolist(), strict=True)):
        by_place[place].append(number)
    matches = []
    for label in range(classes):
        mine = np.flatnonzero(answers.labels == label)
        mine = mine[np.lexsort((-answers.scores[mine], answers.images[mine]))]
        firsts = np.flatnonzero(np.diff(answers.images[mine], prepend=-1))
        ends = [*firsts[1:].tolist(), len(mine)] if len(firsts) else []
        kept, hits = [], []
        for first, end in zip(firsts.tolist(), ends, strict=True):
            chosen = mine[first : min(end, first + MOST_DETECTIONS)]
            found = np.array(by_place.get((int(answers.images[chosen[0]]), label), []), np.int64)
            hit, ignored = _match_image(
                overlaps(answers.boxes[chosen], truths.boxes[found]),
                ~inside[found],
                outside[chosen],
                least_overlap,
            )
            kept.append(chosen[~ignored])
            hits.append(hit[~ignored])
        order = np.concatenate(kept) if kept else np.empty(0, np.int64)
        hit_all = np.concatenate(hits) if hits else np.empty(0, bool)
        best = np.argsort(-answers.scores[order], kind="stable")
        wanted = np.bincount(truths.images[inside & (truths.labels == label)], minlength=images)
        matches.append(Matches(answers.images[order[best]], hit_all[best], wanted.astype(np.float64)))
    return matches


def _match_image(
    overlap: Floats, uncounted: NDArray[np.bool_], outside: NDArray[np.bool_], least: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which answers hit a truth, and which are left out; `overlap` is [answers, truths]."""
    answers = len(overlap)
    if not len(uncounted):
        return np.zeros(answers, bool), outside
    hit, ignored = np.zeros(answers, bool), np.zeros(answers, bool)
    free = np.ones(len(uncounted), bool)
    threshold = min(least, 1 - 1e-10)
    for number in range(answers):
        found = -1
        # A truth that counts is preferred to one that does not; of equal overlaps COCO takes the last.
        for candidates in (free & ~uncounted, free & uncounted):
            reachable = np.flatnonzero(candidates & (overlap[number] >= threshold))
            if len(reachable):
                values = overlap[number, reachable]
                found = int(reachable[len(values) - 1 - int(np.argmax(values[::-1]))])
                break
        if found < 0:
            ignored[number] = outside[number]
            continue
        free[found] = False
        hit[number], ignored[number] = not uncounted[found], uncounted[found]
    return hit, ignored


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
