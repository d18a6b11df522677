"""What a promotion leaves in MLflow and in the UI."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from resources.models.records import (
    MODEL_CARD_ARTIFACT,
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_COMMIT,
    TAG_DAGSTER_RUN,
    TAG_PARTITION,
    WEIGHTS_ARTIFACT,
    Run,
)
from tests.world import GATE, World, new_world, shapes_project
from visionops_assets.training.challenger import CURVES_ARTIFACT

# Wide enough that every honest challenger passes.
LENIENT = {**GATE, "require": "non_inferior", "min_improvement": 0.6}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[World]:
    """Version 1 was promoted; the project declares a licence."""
    with new_world(tmp_path_factory.mktemp("promoted") / "world", mlflow_template) as world:
        world.projects = [
            shapes_project(gate=LENIENT, licence="CC-BY-4.0", description="Tells shapes apart.")
        ]
        world.publish("week-01", 120, seed=1)
        ticked = world.tick()
        assert ticked.outcome == "promoted", ticked.reason
        yield world


@pytest.fixture
def run(world: World) -> Run:
    """The MLflow run of version 1."""
    return world.registry.runs.get(world.registry.models.version("shapes", 1).run_id)


def test_its_run_tells_recipe_epochs_origin_and_dataset(world: World, run: Run) -> None:
    recipe = world.project.recipe
    assert run.params["epochs"] == str(recipe.epochs)
    assert run.params["optimiser.lr"] == str(recipe.optimiser.lr)
    assert run.params["model.class_path"] == recipe.model.class_path

    client = MlflowClient(tracking_uri=world.registry.uri)
    for metric in ("train_loss", "validation_loss", "validation_accuracy", "learning_rate"):
        steps = [each.step for each in client.get_metric_history(run.id, metric)]
        assert steps == list(range(1, recipe.epochs + 1)), metric

    (partition,) = world.partitions()
    commit = world.lakefs.head("shapes").id
    assert (run.tags[TAG_PARTITION], run.tags[TAG_COMMIT]) == (partition, commit)
    assert world.instance.get_run_by_id(run.tags[TAG_DAGSTER_RUN]) is not None

    inputs = client.get_run(run.id).inputs
    assert inputs is not None
    (dataset,) = inputs.dataset_inputs
    assert dataset.dataset.source_type == "lakefs"
    assert json.loads(dataset.dataset.source) == {"uri": f"lakefs://shapes/{commit}/"}
    for path in (CURVES_ARTIFACT, WEIGHTS_ARTIFACT, ONNX_ARTIFACT, PROVENANCE_ARTIFACT):
        assert world.registry.artifacts.exists(run.id, path), path


def test_its_card_is_stored_with_it_and_linked_where_people_look(world: World, run: Run) -> None:
    card = world.registry.artifacts.read_bytes(run.id, MODEL_CARD_ARTIFACT).decode()
    for part in (
        "Tells shapes apart.",
        "CC-BY-4.0",
        "## Data",
        "## Recipe",
        "## Metrics",
        "## Slices",
        "## Limits",
    ):
        assert part in card, part
    for asset in ("champion", "in_production"):
        address = str(world.latest(asset).metadata["model_card_file"].value)
        assert f"/runs/{run.id}/artifacts/{MODEL_CARD_ARTIFACT}" in address
