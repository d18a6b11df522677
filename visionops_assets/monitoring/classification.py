"""One class an image, in production: probabilities in the log, and accuracy counted on labels."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.monitoring.monitoring_task import LEVEL, Fault, MonitoringTask, Performance

if TYPE_CHECKING:
    import pyarrow as pa

# A softmax in float32 adds up to 1 within this; a model of independent sigmoids would not.
_SUM_TOLERANCE = 1e-3


class Classification(MonitoringTask):
    """A confidence is the chance to be right, so performance can be estimated."""

    numbers, category, estimated = ("confidence",), "prediction", True

    def answer_fields(self) -> "Sequence[pa.Field]":
        import pyarrow as pa

        return [pa.field("probabilities", pa.list_(pa.float32()), nullable=False)]

    def label_type(self) -> "pa.DataType":
        import pyarrow as pa

        return pa.string()

    def watched(self, rows: pd.DataFrame) -> Mapping[str, Any]:
        return {
            "confidence": rows["confidence"].astype(np.float64),
            "prediction": rows["prediction"].astype(object),
        }

    def faults(self) -> Mapping[str, Fault]:
        return {
            "has probabilities that are none": lambda rows: (
                ~rows["probabilities"].map(_is_distribution).astype(bool)
            )
        }

    def classes_in(self, label: Any) -> set[str]:
        return {label}

    def doubt(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        return _doubt_of_classes(rows["probabilities"])

    def labels(self, holdout: pd.DataFrame) -> pd.Series:
        return holdout["label"].reset_index(drop=True)

    def truths(self, labels: pd.Series) -> Mapping[str, Any]:
        return {"label": labels.to_numpy()}

    def realised(self, labelled: pd.DataFrame, classes: Sequence[str]) -> Performance | None:
        return realised_accuracy(labelled)


def realised_accuracy(labelled: pd.DataFrame) -> Performance:
    """Accuracy of labelled rows, at least one, with the exact interval (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    right, rows = int((labelled["prediction"] == labelled["label"]).sum()), len(labelled)
    interval = binomtest(right, rows).proportion_ci(LEVEL, method="exact")
    how = f"counted on {rows:,} labelled images"
    return Performance("accuracy", right / rows, float(interval.low), float(interval.high), rows, how)


def _doubt_of_classes(column: pd.Series) -> NDArray[np.float64]:
    """One less the lead of the first class over the second."""
    found = np.full(len(column), np.nan)
    for row, probabilities in enumerate(column):
        best = np.sort(np.asarray(probabilities, np.float64))[-2:]
        if len(best) == 2 and np.isfinite(best).all():
            found[row] = 1 - (best[1] - best[0])
    return found


def _is_distribution(values: Any) -> bool:
    numbers = np.asarray(values, np.float64)
    if not numbers.size or not np.isfinite(numbers).all():
        return False
    return bool((numbers >= 0).all() and abs(numbers.sum() - 1) <= _SUM_TOLERANCE)


TASK = Classification()
