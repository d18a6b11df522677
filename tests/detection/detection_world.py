"""A small world to detect in: bright and dark rectangles on noise, 32 × 32 pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionops_assets.config.recipe import Recipe
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.detection import NO_BOX, TASK
from visionops_assets.training.train import TrainingRequest, TrainingResult, train

CLASSES = ("bright", "dark")
SIDE, TRAIN, VALIDATION = 32, 48, 24
RECIPE: dict[str, Any] = {
    "input": {"height": SIDE, "width": SIDE, "channels": 1},
    "model": {
        "class_path": "visionops_assets.training.detector.SmallDetector",
        "init_args": {"width": 8, "detections": 8},
    },
    "optimiser": {"lr": 0.01},
    "epochs": 15,
    "batch_size": 8,
    "threads": 1,
    "precision": "32-true",
    "augmentations": [{"name": "horizontal_flip"}, {"name": "shift", "fraction": 0.1}],
}


class Pictures:
    """Decoded samples in memory: uint8 [N, 32, 32, 1]."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def gather(self, rows: NDArray[np.integer], /) -> NDArray[np.uint8]:
        return self.pixels[rows]


def pictures(count: int, seed: int = 0) -> tuple[Pictures, NDArray[np.float32]]:
    """One or two rectangles an image, left and right of the middle; targets [count, 2, 5]."""
    random = np.random.default_rng(seed)
    pixels = random.integers(90, 130, (count, SIDE, SIDE, 1))
    targets = np.zeros((count, 2, 5), np.float32)
    targets[..., 4] = NO_BOX
    for image, target in zip(pixels, targets, strict=True):
        for place in range(int(random.integers(1, 3))):
            width, height = random.integers(7, 13, 2)
            left = int(random.integers(0, 16 - width + 1)) + 16 * place
            top, label = int(random.integers(0, SIDE - height + 1)), int(random.integers(0, 2))
            image[top : top + height, left : left + width] += -85 if label else 110
            target[place] = (left, top, width, height, label)
    return Pictures(pixels.astype(np.uint8)), targets


def write_coco(folder: Path, count: int, seed: int, shift: int = 0) -> Path:
    """A batch in COCO's format; `shift` moves its boxes towards the middle of the image."""
    source, targets = pictures(count, seed)
    folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (pixels, target) in enumerate(zip(source.pixels, targets, strict=True)):
        Image.fromarray(pixels[..., 0]).save(folder / f"{number:04}.png")
        images.append({"id": number, "file_name": f"{number:04}.png", "width": SIDE, "height": SIDE})
        for left, top, width, height, label in target[target[:, 4] >= 0].tolist():
            moved = [
                side + shift if side + length / 2 < SIDE / 2 else side - shift
                for side, length in ((left, width), (top, height))
            ]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": [*moved, width, height],
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def request(**recipe: Any) -> TrainingRequest:
    declared = {**RECIPE, **recipe}
    source, targets = pictures(TRAIN + VALIDATION)
    rows = np.arange(TRAIN + VALIDATION)
    return TrainingRequest(
        recipe=Recipe.model_validate(declared),
        classes=CLASSES,
        train=LabelledImages(source, rows[:TRAIN], targets[:TRAIN]),
        validation=LabelledImages(source, rows[TRAIN:], targets[TRAIN:]),
        identity="test",
        task=TASK,
        checkpoint_seconds=0,
    )


def train_here(workdir: Path, **recipe: Any) -> TrainingResult:
    return train(request(**recipe), workdir)
