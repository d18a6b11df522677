"""Bright shapes on noise, whole images of them and with boxes, and how a model of the catalogue is trained on them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from training_world import Pictures

from visionops_assets.config.model_catalogue import catalogued
from visionops_assets.config.recipe import Recipe
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.train import TrainingRequest, TrainingResult, train
from visionops_assets.training.training_task import training_task

CLASSES = ("flat", "tall")
VALIDATION = 8


def shapes(count: int, side: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One bright bar an image, lying or standing; images uint8 [count, side, side, 3], boxes float32 [count, 2, 5]."""
    random = np.random.default_rng(seed)
    pixels = random.integers(60, 120, (count, side, side, 3))
    boxes = np.zeros((count, 2, 5), np.float32)
    boxes[..., 4] = -1
    for number in range(count):
        label = number % 2
        high, wide = (side // 6, side // 2) if label == 0 else (side // 2, side // 6)
        top, left = random.integers(0, side - high), random.integers(0, side - wide)
        pixels[number, top : top + high, left : left + wide] += 120
        boxes[number, 0] = (left, top, wide, high, label)
    return pixels.astype(np.uint8), boxes


def train_catalogued(
    name: str,
    workdir: Path,
    *,
    side: int,
    images: int = 16,
    init_args: dict[str, Any],
    start: tuple[dict[str, str], Path | None] | None = None,
    **recipe: Any,
) -> tuple[TrainingRequest, TrainingResult]:
    """A model of the catalogue, trained for an epoch or as the recipe says, and what it was trained on.

    `start` is what its `init_weights` say, and the file.
    """
    pixels, boxes = shapes(images + VALIDATION, side)
    task = catalogued(name).task
    targets = boxes if training_task(task).score == "mAP50" else boxes[:, 0, 4].astype(np.int64)
    rows, source = np.arange(len(pixels)), Pictures(pixels)
    declared = {
        "input": {"height": side, "width": side},
        "model": {"name": name, "init_args": init_args, "init_weights": start and start[0]},
        "optimiser": {"lr": 1e-3},
        "epochs": 1,
        "batch_size": 4,
        "precision": "32-true",
        "augmentations": [{"name": "horizontal_flip"}],
        **recipe,
    }
    request = TrainingRequest(
        recipe=Recipe.model_validate(declared),
        classes=CLASSES,
        train=LabelledImages(source, rows[:images], targets[:images]),
        validation=LabelledImages(source, rows[images:], targets[images:]),
        identity="catalogue",
        task=training_task(task),
        init_weights=start[1] if start else None,
    )
    return request, train(request, workdir)
