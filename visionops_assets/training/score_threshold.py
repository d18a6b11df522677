"""From which score on a detector's boxes are meant: where F1 on the validation images is best.

F1 is 2·hits / (boxes + truths) over all classes together (van Rijsbergen, "Information Retrieval", 1979), a box being
a hit as in mAP@0.5. It is chosen once, by images that no weight was learnt from and no gate looks at.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Hundredths: a runtime's rounding of scores cannot move the choice.
_GRID = np.arange(1, 100) / 100


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
