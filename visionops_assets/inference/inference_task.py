"""What inference asks of a task: which outputs of a shipped file answer, and what they say of each image."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from visionops_assets.inference.shipped_model import ShippedModel
from visionops_assets.tasks.task_registry import facet


class Told(NamedTuple):
    """What a model says of one image. `boxes` for a detector, `probabilities` by class for a classifier."""

    prediction: str | None
    confidence: float | None
    probabilities: NDArray[np.float32] | None = None
    boxes: list[dict[str, Any]] | None = None


class InferenceTask(Protocol):
    """What inference asks of a task. `outputs` of a file are asked for, in this order."""

    outputs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def told(
        self, shipped: ShippedModel, found: Sequence[NDArray[Any]], sizes: Sequence[tuple[int, int]]
    ) -> list[Told]:
        """What the outputs for images of these widths and heights say. Raises ModelFileError where they cannot."""


def inference_task(name: str) -> InferenceTask:
    """The facet of the task that a file names. Raises `UnknownTask`."""
    found: InferenceTask = facet(name, "inference")
    return found
