"""A commit becomes a promoted model, or a clear reason why not."""

import dagster as dg
import pandas as pd
import pytest

from tests.world import World, shapes_project
from visionops_assets.common import run_tags
from visionops_assets.evaluation.verdict_store import find, read_address


def load_table(world: World, asset: str, partition: str) -> pd.DataFrame:
    """A table of the first project, as an analyst loads it."""
    table = world.definitions.load_asset_value(
        ["shapes", asset], partition_key=partition, instance=world.instance
    )
    assert isinstance(table, pd.DataFrame)
    return table


def test_the_first_batch_gives_the_first_champion(promoted: World):
    assert promoted.champion() == 1
    assert promoted.latest("in_production").metadata["version"].value == 1
    (run,) = promoted.instance.get_runs()
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.tags[run_tags.OUTCOME] == run_tags.PROMOTED


def test_nothing_new_asks_for_no_run(promoted: World):
    again = promoted.tick()
    assert again.run_id is None
    assert "promoted" in again.reason


def test_a_poisoned_week_is_refused_and_the_reason_names_the_batch(promoted: World):
    world = promoted
    world.publish("week-02", 120, seed=2, wrong=0.9)
    ticked = world.tick()
    assert ticked.outcome == "refused", ticked.reason
    assert "week-02" in ticked.reason
    assert world.champion() == 1
    assert world.tick().run_id is None, "a refusal is final"


# `test_backfill.py` starts from such a world.
@pytest.mark.stated
def test_one_run_for_the_newest_and_the_older_version_can_be_backfilled(world: World):
    world.publish("week-01", 120, seed=1)
    world.publish("week-02", 60, seed=2)
    ticked = world.tick()
    old, new = world.partitions()
    assert ticked.partition == new
    key = dg.AssetKey(["shapes", "images"])
    assert world.instance.get_materialized_partitions(key) == {old, new}
    assert world.instance.get_materialized_partitions(dg.AssetKey(["shapes", "challenger"])) == {new}


@pytest.mark.slow
def test_what_is_promoted_still_opens_after_the_partition_was_made_again_with_another_recipe(promoted: World):
    world = promoted
    (partition,) = world.partitions()
    decided = read_address(world.artifacts, "decision", "shapes", partition)
    before = load_table(world, "manifest", partition)
    assert decided is not None

    recipe = {**world.project.recipe.model_dump(mode="json"), "epochs": 1}
    world.projects = [shapes_project(recipe=recipe)]
    result = world.run("manifest", "challenger", "evaluation", partition=partition)
    assert result.success

    version = world.registry.models.version("shapes", 1)
    verdict = find(world.registry, "shapes", decided.run_id, decided.identity, "decision")
    assert verdict is not None
    assert verdict.challenger.weights_sha256 == version.weights_sha256
    predictions = f"verdicts/{decided.identity}/predictions.parquet"
    assert world.registry.artifacts.exists(version.run_id, predictions)
    assert (
        world.registry.artifacts.sha256(version.run_id, "model/weights.safetensors") == version.weights_sha256
    )
    assert load_table(world, "manifest", partition).equals(before)
    retrained = world.definitions.load_asset_value(
        ["shapes", "challenger"], partition_key=partition, instance=world.instance
    )
    assert isinstance(retrained, dict)
    assert retrained["weights_sha256"] != version.weights_sha256


@pytest.mark.slow
def test_a_second_project_is_a_second_file_without_any_python(promoted: World):
    world = promoted
    signs = shapes_project(
        project="signs",
        repository="signs",
        annotations="signs",
        classes=["stop", "give_way"],
        recipe={
            **world.project.recipe.model_dump(mode="json"),
            "input": {"height": 20, "width": 16, "channels": 3},
        },
    )
    world.projects.append(signs)
    world.publish("north", 120, seed=3, project=signs, size=24, channels=3, classes=("stop", "give_way"))
    beside = world.tick(signs)
    assert beside.outcome in ("promoted", "refused", "insufficient"), beside.reason
    assert world.champion() == 1
    assert read_address(world.artifacts, "decision", "signs", world.partitions(signs)[0]) is not None


# `test_fails_closed.py` promotes by a changed recipe.
@pytest.mark.stated
def test_a_changed_recipe_is_a_trigger_like_a_commit(promoted: World):
    world = promoted
    recipe = {**world.project.recipe.model_dump(mode="json"), "seed": 5}
    world.projects = [shapes_project(recipe=recipe)]
    ticked = world.tick()
    assert ticked.run_id is not None
    assert ticked.outcome in ("insufficient", "promoted", "refused")


def test_analysts_load_manifest_and_predictions_as_tables(promoted: World):
    world = promoted
    (partition,) = world.partitions()
    manifest = load_table(world, "manifest", partition)
    predictions = load_table(world, "evaluation", partition)
    assert set(manifest["split"]) == {"train", "val", "holdout"}
    assert len(predictions) == (manifest["split"] == "holdout").sum()
    assert predictions["challenger_prediction"].isin(world.project.classes).all()
