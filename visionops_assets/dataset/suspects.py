"""Labels of a new batch that the champion confidently disagrees with."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from visionops_assets.dataset.findings import Finding, findings_table

CONFIDENT = 0.9


@dataclass(frozen=True)
class Opinion:
    """A model's opinion of images: it knows `classes`; `predict` takes (path, bytes) pairs and gives a table of
    `path`, `prediction` and `confidence`."""

    classes: tuple[str, ...]
    predict: Callable[[Iterable[tuple[str, bytes]]], pd.DataFrame]


def check_labels_plausible(
    batch: pd.DataFrame,
    predictions: pd.DataFrame,
    confident: float = CONFIDENT,
    max_disagreement: float | None = None,
) -> pd.DataFrame:
    """List the images whose label is not what the champion is at least `confident` of (WARN), surest first.

    `batch` has `path` and `label`; `predictions` has `path`, `prediction` and `confidence`, for all images or
    some. Where the project declares `max_disagreement`, a larger share of such images among those predicted is an
    ERROR of the batch: random wrong labels hardly change a small network's accuracy, but show here at once.
    """
    both = batch[["path", "label"]].merge(predictions[["path", "prediction", "confidence"]], on="path")
    suspects = both[(both["prediction"] != both["label"]) & (both["confidence"] >= confident)]
    suspects = suspects.sort_values(["confidence", "path"], ascending=[False, True], kind="stable")
    findings = [
        Finding(
            "labels plausible",
            path,
            f"is labelled {label}, and the champion says {prediction} (confidence {confidence:.2f})",
            "one of them is wrong; look at it",
            "WARN",
        )
        for path, label, prediction, confidence in suspects.itertuples(index=False, name=None)
    ]
    share = len(suspects) / len(both) if len(both) else 0.0
    if max_disagreement is not None and share > max_disagreement:
        what = f"the champion confidently disagrees with {share:.1%} of its labels"
        why = f"at most {max_disagreement:.1%} is allowed (audit.max_disagreement); correct the labels listed"
        findings.insert(0, Finding("labels plausible", "the batch", what, why))
    return findings_table(findings)
