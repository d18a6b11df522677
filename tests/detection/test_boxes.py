"""Boxes lie where their objects are: in the decoded image, and after augmentation."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from visionops_assets.config.augmentations import Augmentation
from visionops_assets.config.recipe import InputSpec
from visionops_assets.training.augmenting import augment
from visionops_assets.training.detection import NO_BOX, box_targets, move_boxes, target_boxes

INPUT = InputSpec(height=32, width=48, channels=1)
GEOMETRIC: list[dict[str, Any]] = [
    {"name": "shift", "fraction": 0.1},
    {"name": "scale", "fraction": 0.3},
    {"name": "horizontal_flip"},
    {"name": "vertical_flip"},
    {"name": "random_resized_crop", "area": 0.9, "ratio": 1.05},
    {"name": "rotate", "degrees": 20},
]


def declared(*augmentations: dict[str, Any]) -> list[Augmentation]:
    return [TypeAdapter(Augmentation).validate_python(one) for one in augmentations]


def painted(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with one bright rectangle near the middle, and its box."""
    random = np.random.default_rng(0)
    images = torch.zeros(count, 1, 32, 48)
    targets = np.zeros((count, 1, 5), np.float32)
    for number in range(count):
        left, top = int(random.integers(16, 22)), int(random.integers(11, 15))
        width, height = int(random.integers(6, 11)), int(random.integers(5, 8))
        images[number, :, top : top + height, left : left + width] = 1.0
        targets[number, 0] = (left, top, width, height, 0)
    return images, torch.from_numpy(targets)


def bounds(image: NDArray[np.float32]) -> list[float]:
    """Left, top, right, bottom of what is bright."""
    rows, columns = np.nonzero(image > 0.5)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("augmentations", [[one] for one in GEOMETRIC] + [GEOMETRIC[:4]])
def test_boxes_follow_the_objects(augmentations: list[dict[str, Any]]) -> None:
    images, targets = painted()
    draw: dict[str, Any] = {"seed": 3, "epoch": 2, "samples": np.arange(100, 140)}
    moved = augment(images, declared(*augmentations), **draw)
    boxes = move_boxes(targets, declared(*augmentations), input=INPUT, **draw).numpy()[:, 0]
    # The corners of a turned rectangle are thinner than a pixel, so the painted part is inside its box.
    slack = 2.6 if augmentations[0]["name"] == "rotate" else 1.01
    for image, box in zip(moved.numpy()[:, 0], boxes, strict=True):
        assert box[4] == 0
        found = bounds(image)
        expected = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        np.testing.assert_allclose(found, expected, atol=slack)
        assert found[0] >= expected[0] - 1.01 and found[2] <= expected[2] + 1.01


def test_each_box_moves_alike_in_any_batch_and_anew_each_epoch() -> None:
    _, targets = painted()
    augmentations, samples = declared(*GEOMETRIC), np.arange(40)
    together = move_boxes(targets, augmentations, seed=1, epoch=1, samples=samples, input=INPUT)
    order = np.random.default_rng(0).permutation(40)
    for part in (order[:1], order[1:]):
        apart = move_boxes(targets[part], augmentations, seed=1, epoch=1, samples=samples[part], input=INPUT)
        assert torch.equal(apart, together[part])
    other = move_boxes(targets, augmentations, seed=1, epoch=2, samples=samples, input=INPUT)
    assert not torch.equal(other, together)


def test_a_box_that_leaves_the_frame_is_cut_off_or_dropped() -> None:
    targets = torch.tensor([[[40.0, 4.0, 8.0, 8.0, 2.0], [0.0, 0.0, 0.0, 0.0, NO_BOX]]])
    shift = declared({"name": "shift", "fraction": 0.5})
    seen = [
        move_boxes(targets, shift, seed=seed, epoch=0, samples=np.arange(1), input=INPUT)[0]
        for seed in range(60)
    ]
    kept = [rows[0] for rows in seen if rows[0, 4] >= 0]
    assert 0 < len(kept) < len(seen)
    for left, top, width, height, label in (row.tolist() for row in kept):
        assert label == 2 and left >= 0 and top >= 0 and left + width <= 48 and top + height <= 32
        assert width * height >= 0.3 * 64 - 1e-3
    assert any(row[2] < 7.9 for row in kept)
    assert all(rows[1, 4] == NO_BOX for rows in seen)


def manifest(*boxes: list[tuple[float, float, float, float, str]], width: int, height: int) -> pd.DataFrame:
    names = ("x", "y", "w", "h", "label")
    lists = [[dict(zip(names, box, strict=True)) for box in image] for image in boxes]
    return pd.DataFrame({"boxes": lists, "width": width, "height": height})


def test_targets_are_in_pixels_of_the_decoded_image() -> None:
    rows = manifest([(20, 10, 40, 20, "nut")], [], width=200, height=100)
    stretched = box_targets(
        rows, ["bolt", "nut"], InputSpec(height=50, width=50, channels=1, resize="stretch")
    )
    assert stretched[0].tolist() == [[5, 5, 10, 10, 1]]
    assert stretched[1, 0, 4] == NO_BOX
    fitted = box_targets(rows, ["bolt", "nut"], InputSpec(height=50, width=50, channels=1))
    # 200 × 100 becomes 50 × 25, with 12 rows above.
    assert fitted[0].tolist() == [[5, 12 + 2.5, 10, 5, 1]]


def test_a_split_without_any_box_has_targets_of_one_empty_row() -> None:
    targets = box_targets(manifest([], [], width=8, height=8), ["bolt"], INPUT)
    assert targets.shape == (2, 1, 5)
    assert len(target_boxes(targets).labels) == 0
