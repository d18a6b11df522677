"""How well a model did on a day: counted where labels exist, estimated elsewhere. One (model, device group).

A classifier's accuracy without labels is estimated from its confidences: what NannyML calls CBPE, by isotonic
regression. The expected accuracy of a day is the mean of its calibrated confidences, calibrated on labelled rows
that the model was not trained on: its holdout, and whatever of production was labelled since. It sees what the
model itself sees: where the model has become surely wrong, it says nothing, which is why an estimate never rolls
anything back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resources.error_family import Invalid
from visionops_assets.monitoring.captures import label_sample
from visionops_assets.monitoring.monitoring_task import LEVEL, Performance, monitoring_task

Floats = NDArray[np.float64]

# Fewer labelled rows than these calibrate nothing.
LEAST_LABELLED = 30
_DRAWS, _LUCKS = 200, 50


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
            raise Invalid(
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
        return [_fit_calibration(levels, place[chosen], self.right[chosen]) for chosen in draws]


def _fit_calibration(levels: Floats, place: NDArray[np.int64], right: NDArray[np.bool_]) -> Calibration:
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


@dataclass(frozen=True)
class DayPerformance:
    """What is known of a day. `realised` rests on labels, `estimated` on calibrated confidences alone.

    Detection has no estimate: without labels there is no number.
    """

    rows: int
    labelled: int
    realised: Performance | None
    estimated: Performance | None

    @property
    def known(self) -> Performance | None:
        """The better founded of both."""
        return self.realised or self.estimated

    def below(self, floor: float) -> bool | None:
        """Whether performance is surely below a floor: its whole interval is. None where nothing is known."""
        return None if self.known is None else self.known.upper < floor

    def sentence(self) -> str:
        """In words."""
        if self.known is None:
            return f"{self.rows:,} rows, {self.labelled:,} labelled: no number without labels"
        found = self.known
        return (
            f"{found.metric} {found.value:.3f} ({found.lower:.3f} to {found.upper:.3f}), {found.how}; "
            f"{self.labelled:,} of {self.rows:,} rows are labelled"
        )


def performance_of_day(
    day: pd.DataFrame,
    task: str,
    classes: Sequence[str],
    estimator: AccuracyEstimator | None,
    min_rows: int,
    share: float = 0.0,
) -> DayPerformance:
    """The performance of rows of the log; `estimator` None where there is none (detection).

    An image that came several times counts once in what is realised: its label is one piece of evidence. Captures that
    were not drawn by a `share` of all count only where every image is labelled (`label_sample`). Fewer than
    `min_rows` images that count, or rows, give no number.
    """
    labelled = day["image_sha256"][day["label"].notna()].nunique()
    sample = label_sample(day, share)
    realised = None
    if len(sample) >= min_rows:
        realised = monitoring_task(task).realised(sample, classes)
    estimated = None
    if estimator is not None and len(day) >= min_rows:
        estimated = estimator.estimate(day["confidence"].to_numpy(np.float64), LEVEL)
    return DayPerformance(len(day), labelled, realised, estimated)


def accuracy_estimator(labelled_rows: Sequence[pd.DataFrame]) -> AccuracyEstimator | None:
    """Calibrate on rows of the log: a model's holdout, and its labelled days so far. None where they are too few."""
    columns = ["confidence", "prediction", "label", "image_sha256"]
    known = [rows[columns] for rows in labelled_rows if len(rows)]
    if not known:
        return None
    labelled = pd.concat(known)
    usable = labelled[labelled["label"].notna() & np.isfinite(labelled["confidence"].astype(np.float64))]
    usable = usable.drop_duplicates("image_sha256")
    if len(usable) < LEAST_LABELLED:
        return None
    right = (usable["prediction"] == usable["label"]).to_numpy()
    return AccuracyEstimator(usable["confidence"].to_numpy(np.float64), right)
