"""Boxes as training targets: in the pixels of the decoded image, and where augmentation moves them.

A target is float32 [N, M, 5]: left, top, width, height in pixels of the decoded image, class index; M is the most
boxes an image has, and a class of -1 marks rows that only fill up.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.images.decode import placement
from visionops_assets.config.recipe import Augmentation, InputSpec
from visionops_assets.training.augmentations import affine_matrices
from visionops_assets.training.matching import Boxes

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
    """Return targets [N, M, 5] that follow `augmentations.augment` of the same seed, epoch and samples.

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
