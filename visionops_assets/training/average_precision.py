"""Average precision of boxes as COCO defines it, for any weights of the images.

The interpolation is that of COCO's `COCOeval`, which `faster-coco-eval` repeats; the point values equal its own (a test
holds that to 1e-9).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionops_assets.dataset.overlaps import Floats
from visionops_assets.training.matching import Matches

# How often each image counts; counts of draws fit a byte.
Weights = NDArray[np.float64] | NDArray[np.uint8]

_RECALLS = np.linspace(0.0, 1.0, 101)
_SMALLEST = np.spacing(1.0)
# Draws are taken in pieces, so that no array has more numbers than this.
_NUMBERS_AT_ONCE = 4_000_000


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
