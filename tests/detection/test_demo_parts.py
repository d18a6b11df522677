"""The generated parts: the same each time, labelled where they are, and off by as much as was asked."""

import json
from pathlib import Path

import numpy as np

from visionops.demo.parts import BATCHES, CLASSES, SIDE, draw_batch, write_batch
from visionops_assets.images.box_geometry import iou

IMAGES = 30


def boxes_of(folder: Path) -> np.ndarray:
    content = json.loads((folder / "annotations.json").read_text())
    return np.array([annotation["bbox"] for annotation in content["annotations"]])


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write_batch(tmp_path / name, 5, seed=1) for name in ("one", "other"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 6
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def test_parts_lie_in_the_frame_beside_each_other_and_stand_out_from_the_ground() -> None:
    pictures = draw_batch(IMAGES, seed=1)
    assert {label for picture in pictures for label in picture.labels} == set(CLASSES)
    for picture in pictures:
        boxes = np.array(picture.boxes).reshape(-1, 4)
        assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= SIDE).all()
        assert iou(boxes[:, None], boxes[None]).sum() == len(boxes)
        ground = np.ones((SIDE, SIDE), bool)
        for left, top, width, height in boxes.astype(int):
            ground[top : top + height, left : left + width] = False
        for left, top, width, height in boxes.astype(int):
            inside = picture.pixels[top : top + height, left : left + width]
            assert np.ptp(inside.astype(int)) > np.std(picture.pixels[ground])


def test_only_the_last_batch_has_boxes_that_are_off(tmp_path: Path) -> None:
    right, off = (
        boxes_of(write_batch(tmp_path / str(by), IMAGES, seed=3, shift=(by, by))) for by in (0.0, 7.0)
    )
    assert (np.abs(off - right)[:, :2].max(axis=1) > 0).all()
    assert (off[:, 2:] == right[:, 2:]).all()
    assert (off[:, :2] >= 0).all() and (off[:, :2] + off[:, 2:] <= SIDE).all()
    assert [name for name, (_, _, by) in BATCHES.items() if by] == ["parts-03"]
