"""Nothing but a decision with PASS against the present champion changes the champion, whatever checks are skipped."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.world import World, copied_world, shapes_project
from visionops_assets.common import run_tags
from visionops_assets.common.keys import verdict_key

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory, promoted_template: Path) -> Iterator[World]:
    """A world whose second version was refused; its tests try in vain to change that."""
    with copied_world(promoted_template, tmp_path_factory.mktemp("refused")) as world:
        world.publish("week-02", 120, seed=2, wrong=0.9)
        assert world.tick().outcome == "refused"
        yield world


def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    """What the failing step says."""
    (event,) = [event for event in result.all_events if event.is_step_failure and event.step_key == step]
    data = event.step_failure_data
    assert data.user_failure_data is not None, data.error
    return data.user_failure_data.description or ""


def test_materialising_champion_alone_does_not_get_past_a_refusal(refused: World):
    result = refused.run("champion", partition=refused.partitions()[-1])
    assert not result.success
    assert "FAIL" in failure(result, "shapes__champion")
    assert refused.champion() == 1


def test_running_without_checks_does_not_get_past_a_refusal(refused: World):
    keys = [dg.AssetKey(["shapes", name]) for name in ("evaluation", "champion", "in_production")]
    job = dg.define_asset_job("unchecked", selection=dg.AssetSelection.assets(*keys).without_checks())
    defs = dg.Definitions.merge(refused.definitions, dg.Definitions(jobs=[job]))
    before = refused.champion()
    result = defs.resolve_job_def("unchecked").execute_in_process(
        instance=refused.instance,
        partition_key=refused.partitions()[-1],
        tags={run_tags.INTENT: run_tags.DECISION},
        raise_on_error=False,
    )
    assert not result.success
    assert refused.champion() == before == 1


def test_a_what_if_cannot_promote_even_when_it_passes(world: World):
    world.publish("week-01", 120, seed=1)
    world.projects = [shapes_project(trigger={"min_new_samples": 10_000, "quiet_for": "P1D"})]
    assert world.tick().run_id is None
    (partition,) = world.partitions()
    result = world.run(
        "manifest", "challenger", "evaluation", "champion", "in_production", partition=partition
    )
    assert not result.success
    assert "a what-if cannot promote" in failure(result, "shapes__champion")
    assert world.artifacts.read_json(verdict_key("what_if", "shapes", partition))["verdict"] == "PASS"
    assert world.champion() is None


def test_a_moved_champion_is_not_replaced_by_a_verdict_against_the_one_before(promoted: World):
    """Two versions pass against the same champion; the first to be promoted makes the other verdict void."""
    world = promoted
    (old,) = world.partitions()
    stale = world.artifacts.read_json(verdict_key("decision", "shapes", old))
    other = {**world.project.recipe.model_dump(mode="json"), "seed": 9}
    lenient = {**world.project.gate.model_dump(), "require": "non_inferior", "min_improvement": 0.9}
    world.projects = [shapes_project(recipe=other, gate=lenient)]
    assert world.tick().outcome == "promoted"
    decided = world.artifacts.read_json(verdict_key("decision", "shapes", old))
    assert decided["run_id"] != stale["run_id"]
    world.artifacts.write_json(verdict_key("decision", "shapes", old), stale)
    result = world.run("champion", partition=old)
    assert not result.success
    assert "evaluate again" in failure(result, "shapes__champion")
    assert world.champion() == 2


def test_the_champions_partition_materialised_again_changes_nothing(promoted: World):
    world = promoted
    history = {
        name: value for name, value in world.registry.models.get("shapes").tags.items() if "history" in name
    }
    result = world.run(
        "manifest",
        "challenger",
        "evaluation",
        "champion",
        "in_production",
        partition=world.partitions()[0],
        tags={run_tags.INTENT: run_tags.DECISION},
    )
    assert result.success, "the decision that promoted it is found: against itself it would not be better"
    alone = world.run("champion", "in_production", partition=world.partitions()[0])
    model = world.registry.models.get("shapes")
    assert {name: value for name, value in model.tags.items() if "history" in name} == history
    assert (alone.success, world.champion(), len(world.registry.models.versions("shapes"))) == (True, 1, 1)
