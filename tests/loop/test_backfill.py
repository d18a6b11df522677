"""Backfills ask what if: they judge, spend nothing and can never promote."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import World, copied_world, shapes_project
from visionops_assets.common import run_tags
from visionops_assets.common.keys import verdict_key

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_versions_template(tmp_path_factory: pytest.TempPathFactory, empty_template: Path) -> Path:
    """A closed world whose first version was never decided on; the second is champion."""
    folder = tmp_path_factory.mktemp("two-versions")
    with copied_world(empty_template, folder) as world:
        world.publish("week-01", 90, seed=1)
        world.publish("week-02", 60, seed=2)
        assert world.tick().outcome == "promoted"
    return folder


@pytest.fixture
def two_versions(tmp_path: Path, two_versions_template: Path) -> Iterator[World]:
    """A copy of that world."""
    with copied_world(two_versions_template, tmp_path) as world:
        yield world


def backfill(world: World, partition: str, job: str = "shapes_what_if"):
    """One run of a backfill; its tags are copied from a decision, as a person might."""
    return world.definitions.resolve_job_def(job).execute_in_process(
        instance=world.instance,
        partition_key=partition,
        tags={run_tags.BACKFILL: "abc", run_tags.INTENT: run_tags.DECISION},
        raise_on_error=False,
    )


def test_a_backfill_ends_with_a_what_if_and_production_is_as_before(two_versions: World):
    world = two_versions
    before = (world.champion(), dict(world.registry.models.get("shapes").tags), world.latest("in_production"))
    for partition in world.partitions():
        result = backfill(world, partition)
        assert result.success
        assert world.artifacts.exists(verdict_key("what_if", "shapes", partition))
    after = (world.champion(), dict(world.registry.models.get("shapes").tags), world.latest("in_production"))
    assert after == before


def test_a_backfill_that_includes_the_champion_is_denied(two_versions: World):
    world = two_versions
    world.projects = [shapes_project(gate={**world.project.gate.model_dump(), "require": "non_inferior"})]
    result = backfill(world, world.partitions()[0], job="shapes_decide")
    assert not result.success
    assert world.champion() == 1
    assert not world.artifacts.exists(verdict_key("decision", "shapes", world.partitions()[0]))


def test_a_what_if_after_a_decision_leaves_the_decision(two_versions: World):
    world = two_versions
    newest = world.partitions()[-1]
    decision = world.artifacts.read_json(verdict_key("decision", "shapes", newest))
    assert backfill(world, newest).success
    assert world.artifacts.read_json(verdict_key("decision", "shapes", newest)) == decision
