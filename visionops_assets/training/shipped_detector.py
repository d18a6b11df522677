"""A detector as it ships: boxes, scores and classes out of the same graph that takes the image's bytes."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
import numpy as np
from lightning.pytorch.utilities.model_helpers import is_overridden
from numpy.typing import NDArray
from torch import Tensor, nn

from visionops_assets.config.recipe import InputSpec
from visionops_assets.training.errors import ModelError
from visionops_assets.training.protocol import Shipped, largest_difference


class ShippedDetector(Shipped):
    """Boxes float [N, K, 4] (left, top, width, height in pixels of the input), scores float [N, K] in 0..1, labels
    int64 [N, K], and an embedding float [N, D]. A score of 0 is no box.
    """

    task = "detection"
    outputs = ("boxes", "scores", "labels", "embedding")
    heads = (nn.Conv2d, nn.Linear)
    compared = "scores and boxes"

    def __init__(self, model: nn.Module, classes: Sequence[str], input: InputSpec) -> None:
        own_step = isinstance(model, lightning.LightningModule) and is_overridden(
            "training_step", model, lightning.LightningModule
        )
        needed = ("decode",) if own_step else ("decode", "loss")
        missing = [name for name in needed if not callable(getattr(model, name, None))]
        if missing:
            raise ModelError(
                f"{type(model).__name__} has no method {missing[0]!r}, which a detector needs (docs/training.md); "
                "is model.class_path a detector?"
            )
        super().__init__(model, classes, input)
        if self._penultimate is None and not callable(getattr(model, "embed", None)):
            raise ModelError(
                f"{type(model).__name__} runs no nn.Conv2d or nn.Linear to take an embedding from; define `embed`"
            )

    def answers(self, outputs: Any) -> tuple[Tensor, ...]:
        boxes, scores, labels = self.model.decode(outputs)  # type: ignore[operator]
        return boxes, scores, labels

    def check_answers(self, answers: tuple[Tensor, ...]) -> None:
        boxes, scores, labels = (tuple(tensor.shape) for tensor in answers)
        if len(scores) != 2 or scores[0] != 2 or labels != scores or boxes != (*scores, 4):
            raise ModelError(
                f"{type(self.model).__name__}.decode gives shapes {boxes}, {scores}, {labels} for 2 images, expected "
                "(2, K, 4), (2, K), (2, K): boxes, scores, labels"
            )
        if answers[2].is_floating_point():
            raise ModelError(f"{type(self.model).__name__}.decode gives labels that are no whole numbers")

    def differences(
        self, found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]
    ) -> tuple[float, int]:
        """Scores best first; each clear box against the nearest found one of its class, in sides of the image.

        The last of K boxes, and those of the same score, may be others in another runtime.
        """
        if any(largest_difference(*pair) == np.inf for pair in zip(found[:3], expected[:3], strict=True)):
            return float("inf"), 0
        largest = largest_difference(np.sort(found[1], axis=1), np.sort(expected[1], axis=1))
        side, same = max(self.input.height, self.input.width), 0
        for boxes, scores, labels, there, their_labels, their_scores in zip(
            *expected[:3], found[0], found[2], found[1], strict=True
        ):
            for place in np.flatnonzero(scores > scores.min() + 1e-3):
                alike = their_labels == labels[place]
                alike &= np.abs(their_scores - scores[place]) <= 1e-3
                apart = np.abs(there[alike] - boxes[place]).max(axis=1) / side
                largest = max(largest, float(apart.min(initial=np.inf)))
            same += int(labels[scores.argmax()] == their_labels[their_scores.argmax()])
        return largest, same
