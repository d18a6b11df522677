"""A decision that promotes nothing is no failure: nothing of it is red but the reason."""

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from tests.world import World, shapes_project
from visionops_assets.common import run_tags
from visionops_assets.shells.asset_options import dataset_versions

pytestmark = pytest.mark.slow


def latest(world: World, asset: str) -> tuple[bool, int]:
    """Whether Dagster shows an asset, or one of its partitions, as failed; how many times it was materialised."""
    key = dg.AssetKey(["shapes", asset])
    (record,) = world.instance.get_asset_records([key])
    run = world.instance.get_run_by_id(record.asset_entry.last_run_id or "")
    event = record.asset_entry.last_materialization_record
    ran = event is not None and run is not None and event.run_id == run.run_id
    failed = run is not None and run.status == dg.DagsterRunStatus.FAILURE and not ran
    versions = dataset_versions("shapes") if asset != "in_production" else None
    cached = get_and_update_asset_status_cache_value(world.instance, key, versions)
    if versions is not None and cached is not None:
        failed |= bool(cached.deserialize_failed_partition_subsets(versions))
    found = world.instance.fetch_materializations(key, limit=20)
    return failed, len(found.records)


@pytest.mark.parametrize(("wrong", "images", "outcome"), [(0.9, 120, "refused"), (0.0, 8, "insufficient")])
def test_a_week_that_is_not_promoted_leaves_champion_as_it_was(
    promoted: World, wrong: float, images: int, outcome: str
):
    before = latest(promoted, "champion"), latest(promoted, "in_production")
    promoted.publish("week-02", images, seed=2, wrong=wrong)
    ticked = promoted.tick()
    run = promoted.instance.get_run_by_id(ticked.run_id or "")
    assert run is not None and ticked.outcome == run.tags[run_tags.OUTCOME] == outcome
    assert run.status == dg.DagsterRunStatus.SUCCESS, "it was decided"
    assert (latest(promoted, "champion"), latest(promoted, "in_production")) == before
    assert not before[0][0]
    check = promoted.instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(dg.AssetKey(["shapes", "evaluation"]), "beats_champion")]
    )
    assert [each.status.value for each in check.values()] == ["FAILED"], "the check says why"
    assert promoted.champion() == 1


def test_what_waits_for_a_person_is_no_failure(world: World):
    world.projects = [
        shapes_project(gate={**world.project.gate.model_dump(mode="json"), "approval": "manual"})
    ]
    world.publish("week-01", 120, seed=1)
    ticked = world.tick()
    run = world.instance.get_run_by_id(ticked.run_id or "")
    assert run is not None and ticked.outcome == run_tags.AWAITING_APPROVAL
    assert run.status == dg.DagsterRunStatus.SUCCESS and world.champion() is None
    said = [entry.user_message for entry in world.instance.all_logs(run.run_id)]
    assert any("visionops approve shapes" in text for text in said)
    world.tick()
    assert len(world.instance.get_runs()) == 1, "it is not asked for again"
