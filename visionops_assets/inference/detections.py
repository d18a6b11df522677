"""What detectors answer, by the ONNX files that ship, and what makes the table of their answers unfit.

In the predictions table boxes are lists of `x, y, w, h, label`, answers with their `score`: left, top, width and
height in pixels of the upright image, as in the manifest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge import onnx_model
from edge.onnx_model import ModelFileError
from resources.error_family import Invalid
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.config.recipe import InputSpec
from visionops_assets.images.box_metrics import Boxes
from visionops_assets.inference.predictions import counted, key_columns, key_faults, keys_of, missing_columns
from visionops_assets.inference.shipped_model import ShippedModel


@dataclass(frozen=True)
class Detections:
    """A detector's answers: float32 boxes [images, K, 4] in pixels of its `input`, scores and labels [images, K]."""

    classes: tuple[str, ...]
    input: InputSpec
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def detect(shipped: ShippedModel, batches: Iterable[NDArray[np.uint8]]) -> Detections:
    """Run a detector's file over decoded images uint8 [N, H, W, C] at its own input size.

    A NaN is kept, and the gate refuses it by name. Raises ModelFileError where it names a class it does not have, or
    is given images of another shape.
    """
    parts = shipped.run(batches, ("boxes", "scores", "labels"))
    if not parts[0]:
        empty = np.empty((0, 0), np.float32)
        return Detections(shipped.classes, shipped.input, empty[..., None], empty, empty.astype(np.int64))
    return detections_of(shipped, *(np.concatenate(part) for part in parts))


def detections_of(
    shipped: ShippedModel, boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64]
) -> Detections:
    """A detector's outputs as they are. Raises ModelFileError where it names a class that it does not have."""
    foreign = onnx_model.unknown_class(shipped.classes, scores, labels)
    if foreign is not None:
        raise ModelFileError(f"{shipped.path}: {foreign}; export it again")
    return Detections(shipped.classes, shipped.input, boxes, scores, labels)


def boxes_column(model: str) -> str:
    """The column of one model's answers (`champion` or `challenger`) in the predictions table."""
    return f"{model}_boxes"


def detections_table(
    holdout: pd.DataFrame,
    *,
    challenger: Detections,
    champion: Detections | None = None,
    slices: Sequence[str] = (),
) -> pd.DataFrame:
    """One row a holdout sample, in the manifest's order: its keys, its boxes, the slice columns, each model's boxes.

    `holdout` is the manifest's rows that were scored. Raises ValueError where a model has not one answer an image.
    """
    table = keys_of(holdout, "boxes", slices)
    for model, found in (("champion", champion), ("challenger", challenger)):
        if found is None:
            continue
        if len(found.scores) != len(table):
            raise Invalid(f"the {model} answered {len(found.scores)} images, the holdout has {len(table)}")
        told = [
            boxes_in_image(found, row, int(height), int(width))
            for row, (height, width) in enumerate(zip(holdout["height"], holdout["width"], strict=True))
        ]
        table[boxes_column(model)] = pd.Series(told, index=table.index, dtype=object)
    return table


def as_boxes(column: pd.Series, classes: Sequence[str]) -> Boxes:
    """A column of the predictions table as boxes, image after image; boxes of other classes are left out."""
    index = {name: number for number, name in enumerate(classes)}
    rows = [
        (image, index[box["label"]], box["x"], box["y"], box["w"], box["h"], box.get("score", 1.0))
        for image, boxes in enumerate(column)
        for box in boxes
        if box["label"] in index
    ]
    values = np.array(rows, np.float64).reshape(-1, 7)
    return Boxes(values[:, 0].astype(np.int64), values[:, 1].astype(np.int64), values[:, 2:6], values[:, 6])


def boxes_in_image(found: Detections, row: int, height: int, width: int) -> list[dict[str, Any]]:
    """The boxes of one answer, best first, in pixels of the upright image: `x, y, w, h, label, score`."""
    outputs = (found.boxes[row], found.scores[row], found.labels[row])
    return onnx_model.boxes_in_image(found.input, found.classes, *outputs, (height, width))


def detection_faults(
    predictions: pd.DataFrame, rules: GateRules, *, classes: Sequence[str], with_champion: bool
) -> list[str]:
    """Sentences, each naming a fault and the image or column it concerns; empty for a sound table."""
    models = ("challenger", "champion") if with_champion else ("challenger",)
    wanted = [*key_columns("boxes"), *rules.slices, *(boxes_column(model) for model in models)]
    missing = missing_columns(predictions, wanted)
    if missing or predictions.empty:
        return missing
    faults = [*key_faults(predictions), *_truth_faults(predictions, classes)]
    for model in models:
        faults += _answer_faults(predictions, model)
    return faults


def _truth_faults(predictions: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    for path, boxes in zip(predictions["path"], predictions["boxes"], strict=True):
        for box in boxes:
            if box["label"] not in classes:
                return [f"{path} has a box of {box['label']!r}, which is none of the classes {list(classes)}"]
    return []


def _answer_faults(predictions: pd.DataFrame, model: str) -> list[str]:
    paths, answers = predictions["path"].to_numpy(), predictions[boxes_column(model)]
    unanswered = np.array([not isinstance(boxes, list | tuple | np.ndarray) for boxes in answers])
    if unanswered.any():
        return [counted(f"the {model} gives no answer for {paths[unanswered][0]}", unanswered)]
    faults = []
    numbers = [
        np.array([[box[side] for side in ("x", "y", "w", "h", "score")] for box in boxes]).reshape(-1, 5)
        for boxes in answers
    ]
    for wrong, complaint in (
        ([not np.isfinite(rows).all() for rows in numbers], "has a box whose numbers are not finite"),
        ([bool((rows[:, 2:4] < 0).any()) for rows in numbers], "has a box of negative width or height"),
        (
            [bool(((rows[:, 4] < 0) | (rows[:, 4] > 1)).any()) for rows in numbers],
            "has a score outside 0 to 1",
        ),
    ):
        mask = np.array(wrong)
        if mask.any():
            faults.append(counted(f"the {model}'s answer for {paths[mask][0]} {complaint}", mask))
    return faults


def logged_box(box: Mapping[str, Any]) -> dict[str, Any]:
    """A box in the words of the log."""
    return {"class" if name == "label" else name: value for name, value in box.items()}
