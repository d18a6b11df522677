"""A classifier's answers, one class an image."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from edge.onnx_model import likeliest
from visionops_assets.inference.inference_task import InferenceTask, Told
from visionops_assets.inference.shipped_model import ShippedModel


class Classification(InferenceTask):
    """The likeliest class, and the probabilities of all."""

    outputs = ("probabilities",)

    def told(
        self, shipped: ShippedModel, found: Sequence[NDArray[Any]], sizes: Sequence[tuple[int, int]]
    ) -> list[Told]:
        return [Told(*likeliest(shipped.classes, each), each) for each in found[0]]


TASK = Classification()
