"""Models written against docs/training.md alone go from commit to verdict, one of them from given weights."""

import pytest
from detection_world import RECIPE
from test_detection_loop import detection_project, publish

from tests.world import World, shapes_project
from visionops_assets.config.recipe import ModelSpec, Recipe
from visionops_assets.evaluation.verdict_store import read_address
from visionops_assets.training.model_files import save_weights
from visionops_assets.training.models import build_model

DETECTOR = "foreign_detector.OneBoxACell"


@pytest.mark.slow
def test_a_plain_classifier_runs_to_a_verdict(world: World) -> None:
    recipe = world.project.recipe.model_dump(mode="json") | {
        "model": {"class_path": "foreign_detector.TwoLayers"}
    }
    world.projects = [shapes_project(recipe=recipe)]
    world.publish("week-01", 120, seed=1)
    ticked = world.tick()
    assert ticked.outcome in ("promoted", "refused", "insufficient"), ticked.reason
    assert read_address(world.artifacts, "decision", "shapes", world.partitions()[0]) is not None


@pytest.mark.slow
def test_a_lightning_detector_with_weights_of_its_own_runs_to_a_verdict(world: World) -> None:
    spec = Recipe.model_validate(RECIPE).input
    given = world.root / "given.safetensors"
    digest = save_weights(build_model(ModelSpec(class_path=DETECTOR), ("bright", "dark"), spec), given)
    start = {"uri": given.as_uri(), "sha256": digest, "licence": "MIT"}
    model = {"class_path": DETECTOR, "init_weights": start}
    world.projects = [detection_project(recipe={**RECIPE, "model": model, "epochs": 10})]
    publish(world, "week-01", 60, seed=1)
    ticked = world.tick()
    assert ticked.outcome in ("promoted", "refused", "insufficient"), ticked.reason
    assert read_address(world.artifacts, "decision", "shapes", world.partitions()[0]) is not None
    metadata = world.latest("evaluation").metadata
    assert 0 < float(str(metadata["challenger"].value)) <= 1
