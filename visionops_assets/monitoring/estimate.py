"""A classifier's accuracy without labels: confidence-based performance estimation.

What NannyML calls CBPE, by isotonic regression: the expected accuracy of a day is the mean of its calibrated
confidences. Calibrated on labelled rows that the model was not trained on: its holdout, and whatever of
production was labelled since. It sees what the model itself sees: where the model has become surely wrong, it says
nothing, which is why an estimate never rolls anything back.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Fewer labelled rows than these calibrate nothing.
LEAST_LABELLED = 30
_DRAWS, _LUCKS = 200, 50


@dataclass(frozen=True)
class Performance:
    """A metric of one day with its interval. `rows` of the day it rests on, and how it came about in words."""

    metric: str
    value: float
    lower: float
    upper: float
    rows: int
    how: str


class Calibration(NamedTuple):
    """The chance to be right [K] at ascending confidences [K]: interpolated between them, the same beyond them."""

    confidence: Floats
    chance: Floats

    def at(self, confidence: Floats) -> Floats:
        """The chances [M] at confidences [M]."""
        return np.interp(confidence, self.confidence, self.chance)


@dataclass(frozen=True)
class AccuracyEstimator:
    """Calibration of one model: confidences float64 [N] of labelled rows, and whether each was right, bool [N].

    Raises ValueError for fewer than `LEAST_LABELLED` rows.
    """

    confidence: Floats
    right: NDArray[np.bool_]
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.right) < LEAST_LABELLED:
            raise ValueError(
                f"{len(self.right)} labelled rows calibrate no estimate, at least {LEAST_LABELLED} are needed"
            )

    def calibrated(self, confidence: Floats) -> Floats:
        """The chance that each answer is right [M], by isotonic regression."""
        return self._fits[0].at(confidence)

    def estimate(self, confidence: Floats, level: float = 0.95) -> Performance | None:
        """The accuracy expected of answers of these confidences [M], non-finite ones left out; None for none.

        The interval is for the accuracy that labels would show: it holds both what the calibration leaves open
        (bootstrap of the labelled rows) and the luck of these images (a sum of independent draws).
        """
        usable = confidence[np.isfinite(confidence)]
        if not len(usable):
            return None
        chances = np.stack([fit.at(usable) for fit in self._fits[1:]])
        luck = np.sqrt((chances * (1 - chances)).sum(axis=1)) / len(usable)
        drawn = np.random.default_rng(self.seed).standard_normal((len(chances), _LUCKS))
        shown = chances.mean(axis=1)[:, None] + luck[:, None] * drawn
        tail = (1 - level) / 2
        lower, upper = np.clip(np.quantile(shown, [tail, 1 - tail]), 0, 1)
        value = float(self.calibrated(usable).mean())
        how = f"estimated without labels, calibrated on {len(self.right):,} labelled images"
        return Performance("accuracy", value, float(lower), float(upper), len(usable), how)

    @cached_property
    def _fits(self) -> list[Calibration]:
        """One of all labelled rows, then one of each draw of them."""
        random, rows = np.random.default_rng(self.seed), len(self.right)
        levels, place = np.unique(self.confidence, return_inverse=True)
        draws = [np.arange(rows), *random.integers(0, rows, (_DRAWS, rows))]
        return [_fit(levels, place[chosen], self.right[chosen]) for chosen in draws]


def _fit(levels: Floats, place: NDArray[np.int64], right: NDArray[np.bool_]) -> Calibration:
    """Isotonic regression of rows whose confidence is `levels[place]`, with scipy's pool of adjacent violators.

    scikit-learn's gives the same (a test holds them together), and takes many times as long for so few rows.
    """
    from scipy.optimize import isotonic_regression

    counts = np.bincount(place, minlength=len(levels))
    there = counts > 0
    shares = np.bincount(place, weights=right, minlength=len(levels))[there] / counts[there]
    found = isotonic_regression(shares, weights=counts[there]).x
    # Right on all of so many rows is not right always (Laplace's rule of succession).
    unsure = 1 / (len(right) + 2)
    return Calibration(levels[there], np.clip(found, unsure, 1 - unsure))
