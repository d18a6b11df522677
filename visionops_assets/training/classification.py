"""One class an image: what training asks of the task, and a classifier as it ships."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visionops_assets.common.errors import ModelError
from visionops_assets.config.recipe import InputSpec, Recipe
from visionops_assets.tasks.task_registry import CLASSIFICATION
from visionops_assets.training.batches import Gathered, LabelledImages
from visionops_assets.training.models import Shipped, evaluating, largest_difference, probabilities_of
from visionops_assets.training.training_task import TrainingTask, Validation, evaluated_at_once


class ShippedClassifier(Shipped):
    """A classifier as it ships: probabilities float [N, classes] and an embedding float [N, D]."""

    task = CLASSIFICATION
    outputs = ("probabilities", "embedding")
    heads = (nn.Linear,)
    compared = "probabilities"

    def answers(self, outputs: Tensor) -> tuple[Tensor, ...]:
        return (probabilities_of(self.model, outputs),)

    def check_answers(self, answers: tuple[Tensor, ...]) -> None:
        shape = tuple(answers[0].shape)
        if shape != (2, len(self.classes)):
            raise ModelError(
                f"{type(self.model).__name__} gives outputs of shape {shape} for 2 images, expected "
                f"(2, {len(self.classes)}): one number a class ({', '.join(self.classes)})"
            )

    def differences(
        self, found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]
    ) -> tuple[float, int]:
        same = int((found[0].argmax(axis=1) == expected[0].argmax(axis=1)).sum())
        return largest_difference(found[0], expected[0]), same


class Classification(TrainingTask):
    """One class an image: targets int64 [N]."""

    score = "accuracy"
    shipped = ShippedClassifier

    def targets(self, rows: pd.DataFrame, classes: Sequence[str], input: InputSpec) -> NDArray[Any]:
        index = {label: number for number, label in enumerate(classes)}
        return rows["label"].map(index).to_numpy(np.int64)

    def labels(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        return targets.astype(np.int64)

    def follow(self, targets: Tensor, recipe: Recipe, epoch: int, samples: NDArray[np.int64]) -> Tensor:
        return targets

    def validate(self, shipped: Shipped, images: LabelledImages) -> Validation:
        """Mean cross-entropy in nats, and accuracy."""
        loss, correct = 0.0, 0
        with evaluating(shipped):
            for pixels, targets, _ in Gathered(images).in_order(evaluated_at_once(shipped.input)):
                probabilities = shipped(pixels.to(shipped.mean.device))[0].float().cpu()
                chosen = probabilities.gather(1, targets[:, None]).double()
                # `maximum` lets NaN through, where clamping at the smallest probability would hide it.
                loss -= float(torch.maximum(chosen, torch.tensor(1e-12, dtype=torch.float64)).log().sum())
                correct += int((probabilities.argmax(dim=1) == targets).sum())
        return Validation(loss / len(images), correct / len(images))


TASK = Classification()
