"""A commit of images with boxes becomes a promoted detector, or a clear reason why not."""

import base64
from pathlib import Path
from typing import Any

from detection_world import CLASSES, RECIPE, write_coco

from resources.home import ROOT
from tests.world import World, shapes_project
from visionops_assets.dataset.publishing import Publisher
from visionops_assets.project import Project, load_project

GATE: dict[str, Any] = {
    "floors": {"overall": 0.4, "batch": 0.4, "min_samples": 8},
    "min_holdout": 8,
    "object_sizes": [9, 11],
    "bootstrap": {"draws": 1000},
}


def detection_project(**changes: Any) -> Project:
    content = {"task": "detection", "classes": list(CLASSES), "recipe": RECIPE, "gate": GATE, **changes}
    return shapes_project(**content)


def publish(world: World, batch: str, count: int, seed: int, shift: int = 0) -> None:
    folder = write_coco(world.root / "boxes" / batch, count, seed, shift)
    Publisher(world.project, world.lakefs, world.artifacts).publish(folder, batch)


def test_from_boxes_to_a_promotion_and_a_batch_with_shifted_boxes_is_refused_by_name(world: World) -> None:
    world.projects = [detection_project()]
    publish(world, "week-01", 72, seed=1)
    ticked = world.tick()
    assert ticked.outcome == "promoted", ticked.reason
    assert world.champion() == 1

    evaluation = world.latest("evaluation").metadata
    shown = str(evaluation["answers_against_truths"].value)
    picture = base64.b64decode(shown.partition("base64,")[2].rstrip(")"))
    assert picture.startswith(b"\x89PNG") and len(picture) < 50_000
    assert "mAP50" in " ".join(world.latest("challenger").metadata)

    (partition,) = world.partitions()
    predictions: Any = world.definitions.load_asset_value(
        ["shapes", "evaluation"], partition_key=partition, instance=world.instance
    )
    assert {"boxes", "challenger_boxes"} < set(predictions.columns)

    publish(world, "week-02", 48, seed=2, shift=6)
    refused = world.tick()
    assert refused.outcome == "refused", refused.reason
    assert "week-02" in refused.reason
    assert world.champion() == 1


def test_the_project_file_of_the_parts_is_sound() -> None:
    project = load_project(Path(ROOT) / "projects" / "parts.yaml")
    assert project.task == "detection"
    assert project.gate.floors.batch == 0.6
