"""Boxes into a detector and out of it, and what else training asks of the task.

As training targets: in the pixels of the decoded image, and where augmentation moves them. A target is float32 [N,
M, 5]: left, top, width, height in pixels of the decoded image, class index; M is the most boxes an image has, and a
class of -1 marks rows that only fill up. As it ships: boxes, scores and classes out of the same graph that takes
the image's bytes.
"""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.images.decode import placement
from visionops_assets.common.errors import ModelError
from visionops_assets.config.augmentations import Augmentation
from visionops_assets.config.recipe import InputSpec, Recipe
from visionops_assets.images.box_metrics import (
    OVERLAP,
    Boxes,
    Matching,
    best_threshold,
    mean_average_precisions,
)
from visionops_assets.tasks.task_registry import DETECTION
from visionops_assets.training.augmenting import affine_matrices
from visionops_assets.training.batches import Gathered, LabelledImages
from visionops_assets.training.mixing import mosaic_boxes
from visionops_assets.training.models import Shipped, evaluating, largest_difference, loss_of
from visionops_assets.training.training_task import TrainingTask, Validation, evaluated_at_once

NO_BOX = -1.0
# Of a box that augmentation pushes out of the frame, less than this share tells nothing of the object.
_LEAST_VISIBLE = 0.3


def box_targets(rows: pd.DataFrame, classes: Sequence[str], input: InputSpec) -> NDArray[np.float32]:
    """The boxes of a manifest's rows (`boxes`, `width`, `height`), as targets [N, M, 5], M at least 1."""
    index = {label: float(number) for number, label in enumerate(classes)}
    most = max((len(boxes) for boxes in rows["boxes"]), default=1)
    targets = np.zeros((len(rows), max(1, most), 5), np.float32)
    targets[..., 4] = NO_BOX
    columns = zip(rows["boxes"], rows["width"], rows["height"], strict=True)
    for target, (boxes, width, height) in zip(targets, columns, strict=True):
        top, left, inner_height, inner_width = placement(
            int(height), int(width), input.height, input.width, input.resize
        )
        across, down = inner_width / width, inner_height / height
        for place, box in enumerate(boxes):
            target[place] = (
                left + box["x"] * across,
                top + box["y"] * down,
                box["w"] * across,
                box["h"] * down,
                index[box["label"]],
            )
    return targets


def target_boxes(targets: NDArray[np.float32]) -> Boxes:
    """Targets [N, M, 5] as boxes, image after image."""
    images, places = np.nonzero(targets[..., 4] >= 0)
    chosen = targets[images, places].astype(np.float64)
    return Boxes(images, chosen[:, 4].astype(np.int64), chosen[:, :4], np.ones(len(images)))


def answer_boxes(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], labels: NDArray[np.number]
) -> Boxes:
    """A detector's answers ([N, K, 4], [N, K], [N, K]) as boxes, image after image; a score of 0 is none."""
    images, places = np.nonzero(scores > 0)
    return Boxes(
        images,
        labels[images, places].astype(np.int64),
        boxes[images, places].astype(np.float64),
        scores[images, places].astype(np.float64),
    )


def move_boxes(
    targets: Tensor,
    augmentations: Sequence[Augmentation],
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    input: InputSpec,
) -> Tensor:
    """Return targets [N, M, 5] that follow `batches.augment` of the same seed, epoch and samples.

    A turned box becomes the upright box around its corners. What leaves the frame is cut off; a box of which less
    than 30% stays visible is dropped.
    """
    if not augmentations:
        return targets
    width, height = float(input.width), float(input.height)
    maps = affine_matrices(augmentations, seed=seed, epoch=epoch, samples=samples, aspect=width / height)
    # The maps lead from the augmented image back to the original; boxes go the other way.
    forth = np.linalg.inv(maps)[:, None]
    boxes = targets.cpu().numpy().astype(np.float64)
    left, top = boxes[..., 0], boxes[..., 1]
    right, bottom = left + boxes[..., 2], top + boxes[..., 3]
    x = np.stack([left, right, left, right], axis=-1) * 2 / width - 1
    y = np.stack([top, top, bottom, bottom], axis=-1) * 2 / height - 1
    moved_x = forth[..., 0, :1] * x + forth[..., 0, 1:2] * y + forth[..., 0, 2:]
    moved_y = forth[..., 1, :1] * x + forth[..., 1, 1:2] * y + forth[..., 1, 2:]
    moved_x, moved_y = (moved_x + 1) * width / 2, (moved_y + 1) * height / 2
    whole = np.ptp(moved_x, axis=-1) * np.ptp(moved_y, axis=-1)
    left, right = (np.clip(side, 0, width) for side in (moved_x.min(axis=-1), moved_x.max(axis=-1)))
    top, bottom = (np.clip(side, 0, height) for side in (moved_y.min(axis=-1), moved_y.max(axis=-1)))
    seen = (right - left) * (bottom - top) >= _LEAST_VISIBLE * np.maximum(whole, 1e-9)
    labels = np.where(seen, boxes[..., 4], NO_BOX)
    moved = np.stack([left, top, right - left, bottom - top, labels], axis=-1).astype(np.float32)
    return torch.from_numpy(moved).to(targets.device)


class ShippedDetector(Shipped):
    """Boxes float [N, K, 4] (left, top, width, height in pixels of the input), scores float [N, K] in 0..1, labels
    int64 [N, K], and an embedding float [N, D]. A score of 0 is no box.
    """

    task = DETECTION
    outputs = ("boxes", "scores", "labels", "embedding")
    heads = (nn.Conv2d, nn.Linear)
    compared = "scores and boxes"

    def __init__(self, model: nn.Module, classes: Sequence[str], input: InputSpec) -> None:
        own_step = isinstance(model, lightning.LightningModule) and is_overridden(
            "training_step", model, lightning.LightningModule
        )
        own_loss = callable(getattr(model, "training_loss", None))
        needed = ("decode",) if own_step or own_loss else ("decode", "loss")
        missing = [name for name in needed if not callable(getattr(model, name, None))]
        if missing:
            raise ModelError(
                f"{type(model).__name__} has no method {missing[0]!r}, which a detector needs (docs/training.md); "
                "is model.class_path a detector?"
            )
        super().__init__(model, classes, input)
        says = any(callable(getattr(model, name, None)) for name in ("embed", "outputs_and_embedding"))
        if self._penultimate is None and not says:
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


class Detection(TrainingTask):
    """Boxes with classes: targets float32 [N, M, 5] (this module)."""

    score = "mAP50"
    shipped = ShippedDetector

    def targets(self, rows: pd.DataFrame, classes: Sequence[str], input: InputSpec) -> NDArray[Any]:
        return box_targets(rows, classes, input)

    def labels(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        return target_boxes(targets).labels

    def follow(self, targets: Tensor, recipe: Recipe, epoch: int, samples: NDArray[np.int64]) -> Tensor:
        wanted, input = recipe.augmentations, recipe.input
        size = (input.height, input.width)
        targets = mosaic_boxes(targets, wanted, seed=recipe.seed, epoch=epoch, samples=samples, size=size)
        return move_boxes(targets, wanted, seed=recipe.seed, epoch=epoch, samples=samples, input=input)

    def validate(self, shipped: Shipped, images: LabelledImages) -> Validation:
        """Mean of the model's own loss, and mean average precision at an overlap of 0.5 (0 without a box to find)."""
        device, loss, found = shipped.mean.device, 0.0, []
        has_loss = callable(getattr(shipped.model, "loss", None))
        with evaluating(shipped):
            for pixels, targets, _ in Gathered(images).in_order(evaluated_at_once(shipped.input)):
                outputs = shipped.model(shipped.prepared(pixels.to(device)))
                if has_loss:
                    loss += float(loss_of(shipped.model, outputs, targets.to(device))) * len(targets)
                found.append([part.float().cpu().numpy() for part in shipped.answers(outputs)])
        boxes, scores, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
        truths, answers = target_boxes(images.labels), answer_boxes(boxes, scores, labels)
        matching = Matching(truths, answers, images=len(images), classes=len(shipped.classes))
        (score,) = mean_average_precisions([matching.at(OVERLAP)], np.ones((1, len(images))))
        threshold = best_threshold(*matching.scored(OVERLAP), len(truths.labels))
        return Validation(loss / len(images) if has_loss else None, float(np.nan_to_num(score)), threshold)


TASK = Detection()
