"""How well a model did on a day: counted where labels exist, estimated elsewhere. One (model, device group)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from visionops_assets.evaluation.detection_slices import MAP, OVERLAP, Matched
from visionops_assets.evaluation.detections import as_boxes
from visionops_assets.evaluation.intervals import DifferenceBounds
from visionops_assets.evaluation.precision_pair import PrecisionPair
from visionops_assets.monitoring.drawn_by_lot import counted
from visionops_assets.monitoring.estimate import LEAST_LABELLED, AccuracyEstimator, Performance

LEVEL = 0.95
_DRAWS = 500


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
    were not drawn by a `share` of all count only where every image is labelled (`drawn_by_lot`). Fewer than
    `min_rows` images that count, or rows, give no number.
    """
    labelled = day["image_sha256"][day["label"].notna()].nunique()
    sample = counted(day, share)
    realised = None
    if len(sample) >= min_rows:
        realised = realised_precision(sample, classes) if task == "detection" else realised_accuracy(sample)
    estimated = None
    if estimator is not None and len(day) >= min_rows:
        estimated = estimator.estimate(day["confidence"].to_numpy(np.float64), LEVEL)
    return DayPerformance(len(day), labelled, realised, estimated)


def realised_accuracy(labelled: pd.DataFrame) -> Performance:
    """Accuracy of labelled rows, at least one, with the exact interval (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    right, rows = int((labelled["prediction"] == labelled["label"]).sum()), len(labelled)
    interval = binomtest(right, rows).proportion_ci(LEVEL, method="exact")
    how = f"counted on {rows:,} labelled images"
    return Performance("accuracy", right / rows, float(interval.low), float(interval.high), rows, how)


def realised_precision(labelled: pd.DataFrame, classes: Sequence[str]) -> Performance | None:
    """Mean average precision at an overlap of 0.5 of labelled rows, with its bootstrap interval over images.

    None where no image has anything to find.
    """
    truths, answers = (
        as_boxes(
            pd.Series([[{**box, "label": box["class"]} for box in boxes] for boxes in labelled[column]]),
            classes,
        )
        for column in ("label", "boxes")
    )
    if not len(truths.images):
        return None
    nothing = answers.of(np.zeros(len(answers.images), bool))
    ours, theirs = (
        [Matched(truths, found, len(labelled), len(classes)).at(OVERLAP)] for found in (answers, nothing)
    )
    # Against a model that answers nothing, whose precision is 0, the difference is the precision itself.
    pair = PrecisionPair(ours, theirs, np.ones(len(labelled), bool), np.arange(len(labelled)))
    value = float(pair.differences(np.ones((1, len(labelled)), np.uint8))[0])
    bounds = DifferenceBounds(pair.linear(), draws=_DRAWS, seed=0, drawn=lambda: pair.drawn(_DRAWS, 0))
    found = bounds.at((1 - LEVEL) / 2)
    lower, upper = (bound.value for bound in found) if found is not None else (0.0, 1.0)
    how = f"counted on {len(labelled):,} labelled images"
    return Performance(MAP, value, max(lower, 0.0), min(upper, 1.0), len(labelled), how)


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
