"""What a model says of one image, in the words that a device, `predict`, `serve`, the log and the gate all use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.images.decode import Resize, placement


class Frame(Protocol):
    """How a model takes images, in pixels."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def resize(self) -> Resize: ...


def likeliest(classes: Sequence[str], probabilities: NDArray[np.float32]) -> tuple[str, float]:
    """The first class of the highest of its probabilities [classes], and that probability."""
    best = int(probabilities.argmax())
    return classes[best], float(probabilities[best])


def classified(classes: Sequence[str], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """A classifier's answer: its likeliest class, and the probabilities [classes] of all."""
    prediction, confidence = likeliest(classes, probabilities)
    return {
        "prediction": prediction,
        "confidence": confidence,
        "probabilities": dict(zip(classes, probabilities.tolist(), strict=True)),
    }


def detected(boxes: list[dict[str, Any]]) -> dict[str, Any]:
    """A detector's answer: the class of its best box, and all boxes, best first."""
    best = boxes[0] if boxes else {"label": None, "score": None}
    return {"prediction": best["label"], "confidence": best["score"], "boxes": boxes}


def unknown_class(
    classes: Sequence[str], scores: NDArray[np.float32], labels: NDArray[np.int64]
) -> str | None:
    """What is said of a detector that names a class it does not have in a box of a score above 0; None if it does not.

    `scores` and `labels` are of one shape.
    """
    foreign = (scores > 0) & ~((labels >= 0) & (labels < len(classes)))
    if not foreign.any():
        return None
    return f"answers class number {labels[foreign][0]}, but names {len(classes)} classes"


def boxes_in_image(
    frame: Frame,
    classes: Sequence[str],
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    size: tuple[int, int],
) -> list[dict[str, Any]]:
    """The boxes of one answer, best first: `x, y, w, h` in pixels of the upright image, `label` and `score`.

    `boxes` [K, 4] are left, top, width and height in pixels of the frame, `size` is the image's height and width.
    A score of 0 is no box; one that is no number stays, so that somebody says so.
    """
    height, width = size
    top, left, inner_height, inner_width = placement(height, width, frame.height, frame.width, frame.resize)
    across, down = width / inner_width, height / inner_height
    kept = np.flatnonzero(~(scores <= 0))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    sides = (boxes[kept].astype(np.float64) - [left, top, 0, 0]) * [across, down, across, down]
    return [
        {
            **dict(zip(("x", "y", "w", "h"), box, strict=True)),
            "label": classes[label] if 0 <= label < len(classes) else "",
            "score": float(score),
        }
        for box, label, score in zip(sides.tolist(), labels[kept], scores[kept], strict=True)
    ]
