"""Holdouts of detectors made to order: what there is to find, and two models that find each object or not."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.evaluation.context import LEAK_COLUMNS
from visionops_assets.evaluation.gate import GateContext
from visionops_assets.evaluation.verdict import ModelReference
from visionops_assets.inference.predictions import holdout_digest

CLASSES = ("bolt", "nut", "washer")
SIDE = 100


def sha(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def truths(images: int, rng: np.random.Generator, objects: int = 3) -> list[list[dict[str, Any]]]:
    """One to `objects` boxes an image, side by side, classes in turn."""
    found = []
    for image in range(images):
        boxes = []
        for place in range(int(rng.integers(1, objects + 1))):
            side = float(rng.choice([12, 20, 28]))
            left, top = 33.0 * place + float(rng.uniform(0, 5)), float(rng.uniform(0, 60))
            label = CLASSES[(image + place) % len(CLASSES)]
            boxes.append({"x": left, "y": top, "w": side, "h": side, "label": label})
        found.append(boxes)
    return found


def answers(
    images: list[list[dict[str, Any]]],
    rng: np.random.Generator,
    *,
    recall: float | NDArray[np.float64] = 0.9,
    stray: float = 0.3,
    off: float = 0.05,
) -> list[list[dict[str, Any]]]:
    """A model that finds an object of image i with chance recall[i], `off` its side beside it, and strays at times."""
    chances = np.broadcast_to(recall, len(images))
    found = []
    for boxes, chance in zip(images, chances, strict=True):
        said = []
        for box in boxes:
            if rng.random() < chance:
                moved = box["w"] * rng.normal(0, off, 2)
                place = {"x": box["x"] + moved[0], "y": box["y"] + moved[1]}
                said.append({**box, **place, "score": float(rng.beta(6, 2))})
        if rng.random() < stray:
            label = str(rng.choice(CLASSES))
            corner = {"x": float(rng.uniform(0, 70)), "y": 80.0, "w": 15.0, "h": 15.0}
            said.append({**corner, "label": label, "score": float(rng.beta(2, 4))})
        found.append(said)
    return found


def table(
    images: list[list[dict[str, Any]]],
    challenger: list[list[dict[str, Any]]],
    champion: list[list[dict[str, Any]]] | None = None,
    *,
    batches: list[str] | None = None,
    groups: list[str] | None = None,
    **slices: list[str],
) -> pd.DataFrame:
    """The predictions table: one batch and single groups unless told otherwise."""
    count = len(images)
    digests = [sha(number) for number in range(count)]
    batch = batches or ["week-01"] * count
    rows = pd.DataFrame(
        {
            "sha256": digests,
            "path": [f"batches/{b}/images/{number:06}.png" for number, b in enumerate(batch)],
            "batch": batch,
            "group": groups or digests,
            "boxes": pd.Series(images, dtype=object),
            **slices,
        }
    )
    if champion is not None:
        rows["champion_boxes"] = pd.Series(champion, dtype=object)
    rows["challenger_boxes"] = pd.Series(challenger, dtype=object)
    return rows


def context(predictions: pd.DataFrame, **changes: Any) -> GateContext:
    """A first decision on this table: champion and challenger are two models."""
    told: dict[str, Any] = {
        "project": "parts",
        "classes": CLASSES,
        "challenger": ModelReference(weights_sha256=sha("challenger")),
        "champion": ModelReference(weights_sha256=sha("champion"))
        if "champion_boxes" in predictions
        else None,
        "holdout_digest": holdout_digest(predictions),
        "holdout_share": 0.25,
        "leaks": pd.DataFrame(columns=list(LEAK_COLUMNS)),
        "kind": "decision",
        "k": 1,
        "created_at": datetime(2025, 1, 6, tzinfo=UTC),
        "task": "detection",
    }
    return GateContext(**(told | changes))
