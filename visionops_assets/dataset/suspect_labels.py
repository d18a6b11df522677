"""Labels of a new batch that the champion confidently disagrees with.

Its opinion is asked for a bounded number of images at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from visionops_assets.common.findings import Finding, findings_table, sides_of
from visionops_assets.config.project import AuditRules
from visionops_assets.dataset.batch_images import Uploads
from visionops_assets.dataset.dataset_task import Suspect, truth_of
from visionops_assets.images.box_geometry import iou

# The check, in findings.
PLAUSIBLE = "labels plausible"
CONFIDENT = 0.9
# What two boxes of the same thing share at least, as in mAP@0.5.
SAME_THING = 0.5
# A multiple of what models are given at once, so that they are given the same.
_AT_ONCE = 4096


@dataclass(frozen=True)
class Opinion:
    """A model's opinion of images: it knows `classes`; `predict` takes (path, bytes) pairs and gives a table of
    `path`, and `prediction` and `confidence`, or of a detector `boxes` with their `score`. Where there is a champion
    that cannot be asked, `unheard` says why, and the rest is empty."""

    classes: tuple[str, ...]
    predict: Callable[[Iterable[tuple[str, bytes]]], pd.DataFrame]
    unheard: str | None = None


def suspect_labels(
    batch: pd.DataFrame, predictions: pd.DataFrame, confident: float = CONFIDENT
) -> tuple[list[Suspect], int]:
    """The images whose label is not what the champion is at least `confident` of, and how many were judged.

    `batch` has `path` and `label`; `predictions` has `path`, `prediction` and `confidence`, for all images or some.
    """
    both = batch[["path", "label"]].merge(predictions[["path", "prediction", "confidence"]], on="path")
    suspects = [
        Suspect(
            path,
            confidence,
            f"is labelled {label}, and the champion says {said} (confidence {confidence:.2f})",
            str(said),
        )
        for path, label, said, confidence in both.itertuples(index=False, name=None)
        if said != label and confidence >= confident
    ]
    return suspects, len(both)


def suspect_boxes(
    batch: pd.DataFrame, predictions: pd.DataFrame, learnt: Sequence[str], confident: float = CONFIDENT
) -> tuple[list[Suspect], int]:
    """The images where the champion is at least `confident` of a box that is not labelled so, and how many were judged.

    `batch` has `path` and `boxes`, `predictions` has `path` and `boxes` with their `score`. An image counts once, by
    the surest such box: one that no label overlaps by half, or only labels of other classes that the champion learnt.
    What it fails to find is no disagreement.
    """
    both = batch[["path", "boxes"]].merge(predictions[["path", "boxes"]], on="path", suffixes=("", "_said"))
    suspects = [
        suspect
        for path, labelled, said in both.itertuples(index=False, name=None)
        if (suspect := _doubted(path, labelled, [box for box in said if box["score"] >= confident], learnt))
    ]
    return suspects, len(both)


def _doubted(
    path: str, labelled: Sequence[Mapping[str, Any]], sure: Sequence[Mapping[str, Any]], learnt: Sequence[str]
) -> Suspect | None:
    """The surest box that the labels contradict."""
    sides = _sides(labelled)
    for box in sorted(sure, key=lambda box: -box["score"]):
        shared = iou(_sides([box]), sides)
        here = [labelled[place]["label"] for place in np.flatnonzero(shared >= SAME_THING).tolist()]
        if box["label"] in here or any(label not in learnt for label in here):
            continue
        where = f"at {box['x']:.0f}, {box['y']:.0f}"
        said = f"the champion sees {box['label']} there (confidence {box['score']:.2f})"
        what = f"is labelled {here[0]} {where}" if here else f"has no label {where}"
        return Suspect(path, box["score"], f"{what}, and {said}", box["label"], sides_of(box))
    return None


def _sides(boxes: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Left, top, width and height, float64 (N, 4)."""
    return np.array([[box[side] for side in "xywh"] for box in boxes], np.float64).reshape(-1, 4)


def suspects_unheard(why: str) -> pd.DataFrame:
    """The finding on a batch whose labels no champion could be asked about."""
    return findings_table(
        [
            Finding(
                PLAUSIBLE,
                "the champion",
                f"could not be asked: {why}",
                "no label was held against it",
                "WARN",
            )
        ]
    )


def suspects_table(suspects: Sequence[Suspect], asked: int, max_disagreement: float | None) -> pd.DataFrame:
    """The findings (WARN), surest first, of so many images that were judged.

    Where the project declares `max_disagreement`, a larger share of suspects is an ERROR of the batch: random wrong
    labels hardly change a small network's accuracy, but show here at once.
    """
    ordered = sorted(suspects, key=lambda one: (-one.confidence, one.path))
    findings = [
        Finding(
            PLAUSIBLE,
            one.path,
            one.what,
            "one of them is wrong; look at it",
            "WARN",
            suspected=one.suspected,
            confidence=float(one.confidence),
            box=one.box,
        )
        for one in ordered
    ]
    share = len(suspects) / asked if asked else 0.0
    if max_disagreement is not None and share > max_disagreement:
        what = f"the champion confidently disagrees with {share:.1%} of its labels"
        why = f"at most {max_disagreement:.1%} is allowed (audit.max_disagreement); correct the labels listed"
        findings.insert(0, Finding(PLAUSIBLE, "the batch", what, why))
    return findings_table(findings)


def check_plausible(
    uploads: Uploads, table: pa.Table, opinion: Opinion | None, rules: AuditRules
) -> pd.DataFrame:
    """The labels of a batch's images, in its annotations `table`, against what the champion says. A class that it
    never learnt is no disagreement."""
    if opinion is None:
        return findings_table([])
    if opinion.unheard is not None:
        return suspects_unheard(opinion.unheard)
    column, task = truth_of(table.column_names)
    asked = np.flatnonzero(task.askable(table[column].combine_chunks(), opinion.classes)[uploads.rows])
    suspects: list[Suspect] = []
    number = 0
    for start in range(0, len(asked), _AT_ONCE):
        places = asked[start : start + _AT_ONCE]
        annotated = table.take(pa.array(uploads.rows[places])).to_pandas()
        images = ((one.path, one.read()) for one in (uploads[place] for place in places.tolist()))
        predictions = opinion.predict(images)
        found, seen = task.suspects(annotated, predictions, opinion.classes, rules.confidence)
        suspects += found
        number += seen
    return suspects_table(suspects, number, rules.max_disagreement)
