"""How long answers take, pooled over devices: from the histograms that their reports have."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.blocks import LATENCY_MS

QUANTILE = 0.99
# So few answers say nothing about the slowest hundredth.
FEWEST_ANSWERS = 300
# Where a group has no budget, or one that the base misses, too.
MOST_OF_BASE = 1.1
_BUCKETS = len(LATENCY_MS) + 1
_RATIO = LATENCY_MS[1] / LATENCY_MS[0]


def pooled(histograms: ArrayLike) -> NDArray[np.int64]:
    """The sum of histograms of one device a row, counts by bucket of `edge.blocks.LATENCY_MS`. Raises ValueError."""
    found = np.asarray(histograms, np.int64).reshape(-1, _BUCKETS)
    if (found < 0).any():
        raise ValueError("a histogram of latencies has counts below 0")
    return np.asarray(found.sum(axis=0), np.int64)


def quantile_ms(histogram: Sequence[int] | NDArray[np.int64], quantile: float = QUANTILE) -> float | None:
    """The time in ms within which this share of answers came; None of fewer than `FEWEST_ANSWERS`.

    Between the ends of a bucket, which are 1.5 times apart, times are taken for evenly spread on a logarithmic scale;
    beyond the last end there is no telling: infinity.
    """
    counts = np.asarray(histogram, float)
    if counts.sum() < FEWEST_ANSWERS:
        return None
    reached = np.cumsum(counts)
    # Of 300 answers the 297th, whatever 0.99 is in binary.
    wanted = round(quantile * float(reached[-1]), 6)
    bucket = int(np.searchsorted(reached, wanted))
    if bucket >= len(LATENCY_MS):
        return float("inf")
    before = reached[bucket - 1] if bucket else 0.0
    start = LATENCY_MS[bucket] / _RATIO
    return float(start * _RATIO ** ((wanted - before) / counts[bucket]))


def too_slow(candidate_ms: float | None, base_ms: float | None, budget_ms: float | None) -> str | None:
    """Why a candidate takes too long, in words; None where it is within its budget or `MOST_OF_BASE` times the base.

    What was not measured is not too slow; where there is nothing to compare it with, neither.
    """
    if candidate_ms is None:
        return None
    allowed = [] if budget_ms is None else [budget_ms]
    if base_ms is not None:
        allowed.append(MOST_OF_BASE * base_ms)
    if not allowed or candidate_ms <= max(allowed):
        return None
    said = [] if budget_ms is None else [f"{budget_ms:g} ms are its budget"]
    if base_ms is not None:
        said.append(f"the base takes {base_ms:.1f} ms")
    return f"99 of 100 answers take up to {candidate_ms:.1f} ms; {', '.join(said)}"
