"""What both detectors answer on the holdout, from the ONNX files that ship.

In the predictions table boxes are lists of `x, y, w, h, label`, answers with their `score`: left, top, width and
height in pixels of the upright image, as in the manifest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge import answers
from edge.model import ModelFileError
from visionops_assets.config.recipe import InputSpec
from visionops_assets.evaluation.predictions import keys_of
from visionops_assets.inference.shipped_model import ShippedModel
from visionops_assets.training.matching import Boxes


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
    foreign = answers.unknown_class(shipped.classes, scores, labels)
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
            raise ValueError(f"the {model} answered {len(found.scores)} images, the holdout has {len(table)}")
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
    return answers.boxes_in_image(found.input, found.classes, *outputs, (height, width))
