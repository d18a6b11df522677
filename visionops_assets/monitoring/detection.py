"""Boxes in production: what a detector says of an image as numbers, and precision counted on labels."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.evaluation.detection import MAP, Matched
from visionops_assets.evaluation.paired_difference import DifferenceBounds, PrecisionPair
from visionops_assets.images.box_metrics import OVERLAP
from visionops_assets.inference.detections import as_boxes, logged_box
from visionops_assets.monitoring.monitoring_task import LEVEL, Fault, MonitoringTask, Performance
from visionops_assets.monitoring.signals import AREA, BOX_CLASS, BOXES, LEAST_SCORE, NO_BOX, SCORE

if TYPE_CHECKING:
    import pyarrow as pa

_SIDES = ("x", "y", "w", "h", "score")
_RESAMPLES = 500


class Detection(MonitoringTask):
    """Without labels there is no number: what was not found leaves no trace."""

    numbers, category, beside, may_be_silent = (BOXES, SCORE, AREA), BOX_CLASS, ("boxes",), True

    def answer_fields(self) -> "Sequence[pa.Field]":
        import pyarrow as pa

        return [pa.field("boxes", pa.list_(_box(scored=True)), nullable=False)]

    def label_type(self) -> "pa.DataType":
        import pyarrow as pa

        return pa.list_(_box(scored=False))

    def watched(self, rows: pd.DataFrame) -> Mapping[str, Any]:
        numbers = _signals_of_boxes(rows["boxes"], rows["width"], rows["height"])
        classes = [
            _one_class(boxes, digest)
            for boxes, digest in zip(rows["boxes"], rows["image_sha256"], strict=True)
        ]
        return {**dict(zip(self.numbers, numbers.T, strict=True)), BOX_CLASS: classes}

    def faults(self) -> Mapping[str, Fault]:
        return {"has a box that is none": lambda rows: ~rows["boxes"].map(_are_boxes).astype(bool)}

    def classes_in(self, label: Any) -> set[str]:
        return {box["class"] for box in label}

    def doubt(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        return _doubt_of_boxes(rows["boxes"])

    def labels(self, holdout: pd.DataFrame) -> pd.Series:
        return pd.Series([[logged_box(box) for box in each] for each in holdout["boxes"]], dtype=object)

    def truths(self, labels: pd.Series) -> Mapping[str, Any]:
        return {
            "boxes": [
                [
                    {("label" if side == "class" else side): value for side, value in box.items()}
                    for box in boxes
                ]
                for boxes in labels
            ]
        }

    def realised(self, labelled: pd.DataFrame, classes: Sequence[str]) -> Performance | None:
        return realised_precision(labelled, classes)


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
    bounds = DifferenceBounds(
        pair.linear(), draws=_RESAMPLES, seed=0, drawn=lambda: pair.drawn(_RESAMPLES, 0)
    )
    found = bounds.at((1 - LEVEL) / 2)
    lower, upper = (bound.value for bound in found) if found is not None else (0.0, 1.0)
    how = f"counted on {len(labelled):,} labelled images"
    return Performance(MAP, value, max(lower, 0.0), min(upper, 1.0), len(labelled), how)


def _signals_of_boxes(column: pd.Series, widths: pd.Series, heights: pd.Series) -> NDArray[np.float64]:
    found = np.full((len(column), 3), np.nan)
    for row, (answered, width, height) in enumerate(zip(column, widths, heights, strict=True)):
        boxes = _boxes_said(answered)
        found[row, 0] = len(boxes)
        if boxes:
            found[row, 1] = np.mean([box["score"] for box in boxes])
            if width > 0 and height > 0:
                found[row, 2] = np.mean([box["w"] * box["h"] for box in boxes]) / (width * height)
    return found


def _boxes_said(boxes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [box for box in boxes if box["score"] >= LEAST_SCORE]


def _one_class(answered: Sequence[dict[str, Any]], digest: str) -> str:
    boxes = _boxes_said(answered)
    if not boxes:
        return NO_BOX
    chosen = int.from_bytes(hashlib.sha256(digest.encode()).digest()[:8]) % len(boxes)
    return str(boxes[chosen]["class"])


def _doubt_of_boxes(column: pd.Series) -> NDArray[np.float64]:
    """How near the most doubtful box is to one half, 0 to 1; an image without boxes is in no doubt."""
    return np.array(
        [max((1 - abs(2 * float(box["score"]) - 1) for box in boxes), default=0.0) for boxes in column],
        np.float64,
    )


def _are_boxes(boxes: Any) -> bool:
    numbers = np.asarray([[box[side] for side in _SIDES] for box in boxes], np.float64).reshape(
        -1, len(_SIDES)
    )
    return bool(np.isfinite(numbers).all() and (numbers[:, 2:4] >= 0).all()) and all(
        box["class"] for box in boxes
    )


def _box(*, scored: bool) -> "pa.DataType":
    import pyarrow as pa

    sides = [pa.field(side, pa.float32()) for side in ("x", "y", "w", "h")]
    score = [pa.field("score", pa.float32())] if scored else []
    return pa.struct([*sides, pa.field("class", pa.string()), *score])


TASK = Detection()
