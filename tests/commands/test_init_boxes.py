"""From images with boxes to a promoted detector: one command, whatever the format, and no edit."""

import re
from pathlib import Path

import pytest
import yaml
from desk import Desk

from tests.detection.boxes_on_disk import WRITERS, rectangles
from visionops.demo.parts import BATCHES, draw_batch
from visionops_assets.config.project import load_project
from visionops_assets.dataset.importing.image_source import SourceError


def declared(desk: Desk, name: str) -> Path:
    return desk.world.root / "projects" / f"{name}.yaml"


@pytest.mark.stated
def test_boxes_of_one_class_become_a_champion_without_an_edit(desk: Desk, tmp_path: Path):
    source = WRITERS["yolo"](tmp_path / "mine", rectangles(64, classes=("hole", "hole")))

    told = desk.run("init", "holes", "--from", str(source), "--yes")

    assert "64 labelled images (yolo), detection, about 32×32, grey" in told
    assert re.search(r"1 class, boxes of each: hole \(\d+\)", told)
    assert re.search(r"the median box measures about (9×9|10×10) pixels", told)
    assert "on one core" in told and "so that the gate has the 30" in told
    assert "holes: promoted" in told, told
    project = load_project(declared(desk, "holes"))
    assert (project.task, project.classes) == ("detection", ("hole",))
    assert "champion" in desk.world.registry.models.get("holes").aliases


def test_each_format_of_the_same_boxes_makes_the_same_project(desk: Desk, tmp_path: Path):
    drawn, made = rectangles(20), {}
    for name, write in WRITERS.items():
        source = write(tmp_path / name, drawn)
        told = desk.run("init", name, "--from", str(source), "--yes", "--no-run")
        assert f"20 labelled images ({name}), detection" in told
        content = yaml.safe_load(declared(desk, name).read_text())
        assert {content["project"], content["repository"], content["annotations"]} == {name}
        made[name] = {key: content[key] for key in ("task", "classes", "recipe", "gate")}
    assert made["coco"] == made["yolo"] == made["voc"]


@pytest.mark.stated
@pytest.mark.parametrize("name", sorted(WRITERS))
def test_the_parts_reach_what_a_detector_should_in_each_format(desk: Desk, tmp_path: Path, name: str):
    images, seed, _ = BATCHES["parts-01"]
    source = WRITERS[name](tmp_path / "mine", draw_batch(images, seed))
    told = desk.run("init", name, "--from", str(source), "--yes")
    found = re.search(rf"{name}: promoted: PASS: .* mAP@0\.5 ([\d.]+)% on 160 holdout images", told)
    assert found and float(found[1]) >= 95, told


def test_boxes_without_a_size_are_refused_before_anything_is_written(desk: Desk, tmp_path: Path):
    drawn = rectangles(4)
    flat = [type(one)(one.pixels, [(x, y, 0.0, 0.0) for x, y, *_ in one.boxes], one.labels) for one in drawn]
    with pytest.raises(SourceError, match="not one box has a width and a height"):
        desk.run("init", "flat", "--from", str(WRITERS["coco"](tmp_path / "flat", flat)), "--yes")
    assert not declared(desk, "flat").exists()
