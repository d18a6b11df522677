"""A detector's answers, boxes with classes."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from edge.onnx_model import detected
from visionops_assets.inference.detections import boxes_in_image, detections_of
from visionops_assets.inference.inference_task import InferenceTask, Told
from visionops_assets.inference.shipped_model import ShippedModel


class Detection(InferenceTask):
    """Boxes best first; the best one is the prediction."""

    outputs = ("boxes", "scores", "labels")

    def told(
        self, shipped: ShippedModel, found: Sequence[NDArray[Any]], sizes: Sequence[tuple[int, int]]
    ) -> list[Told]:
        answers = detections_of(shipped, *found)
        return [
            told_boxes(boxes_in_image(answers, row, height, width))
            for row, (width, height) in enumerate(sizes)
        ]


def told_boxes(boxes: list[dict[str, Any]]) -> Told:
    """What boxes say of an image, best first."""
    best = detected(boxes)
    return Told(best["prediction"], best["confidence"], None, boxes)


TASK = Detection()
