"""The columns that are watched for drift, of the inference log or of a reference: one row an image."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.monitoring.image_statistics import STATISTICS

# What a detector says of an image, as numbers; and the class of one of its boxes.
BOXES, SCORE, AREA, BOX_CLASS = "boxes_an_image", "mean_score", "box_area", "box_class"
NO_BOX = "no box"
# A detector answers with many boxes of less, as many on every image: they are no part of what it says is there.
LEAST_SCORE = 0.25


def numeric_signals(task: str) -> tuple[str, ...]:
    """Names of the watched columns that are numbers."""
    return (*STATISTICS, *((BOXES, SCORE, AREA) if task == "detection" else ("confidence",)))


def categorical_signal(task: str) -> str:
    """Name of the watched column that is a class."""
    return BOX_CLASS if task == "detection" else "prediction"


def signals(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """The watched columns of rows of the log, in its order: numbers as float64, infinite ones as missing.

    In detection boxes count from `LEAST_SCORE` on; `mean_score` and `box_area` (the mean share of the image that a box
    covers) are missing where there is none. `box_class` is the class of one box an image, chosen by the image's
    digest: the classes of all boxes in their proportions, with images, not boxes, as the independent pieces.
    """
    found = rows[list(STATISTICS)].astype(np.float64)
    if task == "detection":
        found[[BOXES, SCORE, AREA]] = _of_boxes(rows["boxes"], rows["width"], rows["height"])
        found[BOX_CLASS] = [
            _one_class(boxes, digest)
            for boxes, digest in zip(rows["boxes"], rows["image_sha256"], strict=True)
        ]
    else:
        found["confidence"] = rows["confidence"].astype(np.float64)
        found["prediction"] = rows["prediction"].astype(object)
    numbers = list(numeric_signals(task))
    found[numbers] = found[numbers].replace([np.inf, -np.inf], np.nan)
    return found.reset_index(drop=True)


def embeddings(rows: pd.DataFrame) -> NDArray[np.float64]:
    """The embeddings [N, D] of rows that have one, all finite, of the most frequent width; [0, 0] where none has."""
    vectors = [np.asarray(vector, np.float64) for vector in rows["embedding"] if vector is not None]
    widths = [len(vector) for vector in vectors]
    if not widths or not max(widths):
        return np.empty((0, 0))
    width = int(np.bincount(widths).argmax())
    stacked = np.stack([vector for vector in vectors if len(vector) == width])
    return stacked[np.isfinite(stacked).all(axis=1)]


def _of_boxes(column: pd.Series, widths: pd.Series, heights: pd.Series) -> NDArray[np.float64]:
    found = np.full((len(column), 3), np.nan)
    for row, (answered, width, height) in enumerate(zip(column, widths, heights, strict=True)):
        boxes = _said(answered)
        found[row, 0] = len(boxes)
        if boxes:
            found[row, 1] = np.mean([box["score"] for box in boxes])
            if width > 0 and height > 0:
                found[row, 2] = np.mean([box["w"] * box["h"] for box in boxes]) / (width * height)
    return found


def _said(boxes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [box for box in boxes if box["score"] >= LEAST_SCORE]


def _one_class(answered: Sequence[dict[str, Any]], digest: str) -> str:
    boxes = _said(answered)
    if not boxes:
        return NO_BOX
    chosen = int.from_bytes(hashlib.sha256(digest.encode()).digest()[:8]) % len(boxes)
    return str(boxes[chosen]["class"])
