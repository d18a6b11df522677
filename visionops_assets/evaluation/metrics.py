"""What a classifier got right, and what its errors cost."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.config.gate_rules import Costs


def accuracy(labels: Sequence[str] | pd.Series, predictions: Sequence[str] | pd.Series) -> float:
    """Share of images whose predicted class is their label.

    Raises ValueError for no images: there is no accuracy of nothing.
    """
    correct = np.asarray(labels, dtype=object) == np.asarray(predictions, dtype=object)
    if correct.size == 0:
        raise ValueError("accuracy needs at least one image")
    return float(np.mean(correct))


def confusion_matrix(
    labels: Sequence[str] | pd.Series, predictions: Sequence[str] | pd.Series, classes: Sequence[str]
) -> pd.DataFrame:
    """Images by true class (rows) and predicted class (columns), int64, both in the order of `classes`.

    Raises ValueError naming a label or a prediction that is none of the classes.
    """
    rows = _codes(labels, classes, "label")
    columns = _codes(predictions, classes, "prediction")
    counts = np.bincount(rows * len(classes) + columns, minlength=len(classes) ** 2)
    return pd.DataFrame(
        counts.reshape(len(classes), len(classes)),
        index=pd.Index(classes, name="true"),
        columns=pd.Index(classes, name="predicted"),
    )


def error_costs(
    labels: Sequence[str] | pd.Series, predictions: Sequence[str] | pd.Series, costs: Costs
) -> NDArray[np.float64]:
    """What each image cost [rows], in `costs.unit`; their mean is the expected cost."""
    true_codes, true = pd.factorize(np.asarray(labels, dtype=object))
    said_codes, said = pd.factorize(np.asarray(predictions, dtype=object))
    prices = np.array([[costs.of(t, s) for s in said] for t in true], dtype=np.float64)
    return prices[true_codes, said_codes] if len(true_codes) else np.empty(0)


def _codes(names: Sequence[str] | pd.Series, classes: Sequence[str], what: str) -> NDArray[np.int64]:
    values = np.asarray(names, dtype=object)
    codes = pd.Index(classes).get_indexer(pd.Index(values))
    if (codes < 0).any():
        raise ValueError(f"the {what} {values[codes < 0][0]!r} is none of the classes {list(classes)}")
    return codes.astype(np.int64)
