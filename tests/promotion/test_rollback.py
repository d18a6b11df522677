"""Undoing a promotion, holding and releasing."""

from typing import Any

import pytest
from promotion_world import PROJECT, FakeRegistry, Killed, hour, judged, trained

from resources.models.records import ONNX_ARTIFACT, WEIGHTS_ARTIFACT, ModelNotFound, ModelVersion, version_on
from visionops_assets.champions.history import production
from visionops_assets.common.errors import (
    ChampionMoved,
    ChampionUnclear,
    NothingToRollBackTo,
    OnHold,
    ReasonMissing,
    VerdictNotPassed,
)
from visionops_assets.evaluation.approvals import reject
from visionops_assets.promotion.production_change import STEPS, Attribution, deliver_to_group
from visionops_assets.promotion.promote import champion_of, promote
from visionops_assets.promotion.rollback import hold, release, retire, rollback, take_along


@pytest.fixture
def world() -> FakeRegistry:
    """Versions 1, 2 and 3 were promoted at hours 1, 2 and 3."""
    world = FakeRegistry()
    for number, name in enumerate(("one", "two", "three"), start=1):
        verdict = judged(world, trained(world, name))
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(number))
    return world


def test_rollback_returns_to_the_version_before_and_holds_promotion(world: FakeRegistry) -> None:
    change = rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "scratches missed"))
    now = production(world.models.get(PROJECT))
    assert change.changed and now.version == 2 and now.on_hold
    assert [each.version for each in now.intervals] == [1, 2, 3, 2]
    assert now.since is not None and now.since.why == "scratches missed"
    verdict = judged(world, trained(world, "near twin"))
    with pytest.raises(OnHold, match="scratches missed"):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(5))


def test_next_gate_compares_against_the_version_rolled_back_to(world: FakeRegistry) -> None:
    rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "bad"), to=1)
    assert champion_of(world, world.models.get(PROJECT)) == world.made[1].weights_sha256


def test_second_rollback_goes_one_further_not_back_to_the_bad_version(world: FakeRegistry) -> None:
    rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "bad"))
    rollback(world, project=PROJECT, by=Attribution("ada", hour(5), "bad too"))
    assert production(world.models.get(PROJECT)).version == 1
    with pytest.raises(
        NothingToRollBackTo,
        match=r"version 1 of digits replaced no other; name one .*: 2, 3; `--model-version none` takes it out",
    ):
        rollback(world, project=PROJECT, by=Attribution("ada", hour(6), "all bad"))


def test_a_first_champion_has_nothing_to_go_back_to_but_nothing() -> None:
    world = FakeRegistry()
    verdict = judged(world, trained(world, "one"), when=hour(1))
    promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(1))
    with pytest.raises(
        NothingToRollBackTo,
        match="replaced no other; nothing else ran before, and `--model-version none` takes it out of production",
    ):
        rollback(world, project=PROJECT, by=Attribution("ada", hour(2), "bad"))


def test_rollback_that_is_repeated_for_the_same_bad_version_goes_back_once(world: FakeRegistry) -> None:
    first = rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "bad"), leaving=3)
    again = rollback(world, project=PROJECT, by=Attribution("ada", hour(5), "bad"), leaving=3)
    assert first.changed and not again.changed and again.entry == first.entry
    with pytest.raises(ChampionMoved, match="version 1 of digits is not in production"):
        rollback(world, project=PROJECT, by=Attribution("ada", hour(6), "bad"), leaving=1)


def test_any_version_that_was_in_production_can_be_named_and_no_other(world: FakeRegistry) -> None:
    verdict = judged(world, trained(world, "orphan"))
    world.models.create_version(PROJECT, "run-orphan", world.run_records["run-orphan"].tags)
    assert verdict.verdict == "PASS"
    with pytest.raises(NothingToRollBackTo, match=r"version 4 of digits was never in production.* 1, 2"):
        rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "bad"), to=4)
    assert rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "bad"), to=1).version == 1
    assert rollback(world, project=PROJECT, by=Attribution("ada", hour(5), "was good"), to=3).version == 3


def test_rollback_is_blocked_by_neither_verdicts_nor_files_nor_an_unreadable_entry(
    world: FakeRegistry,
) -> None:
    for verdict in world.models.get(PROJECT).tags:
        if verdict.startswith("visionops.verdict."):
            reject(
                world, PROJECT, verdict.removeprefix("visionops.verdict."), who="bob", when=hour(4), why="no"
            )
    for run in ("run-one", "run-two", "run-three"):
        world.files[run, WEIGHTS_ARTIFACT] = b"altered"
        del world.files[run, ONNX_ARTIFACT]
    world.models.set_tag(PROJECT, "visionops.history.000004", "not an entry")
    assert rollback(world, project=PROJECT, by=Attribution("ada", hour(5), "bad"), to=1).changed
    assert world.models.get(PROJECT).aliases == {"champion": 1}


def test_champion_that_something_else_registered_is_named_and_can_be_rolled_back(world: FakeRegistry) -> None:
    foreign = ModelVersion(PROJECT, 9, "elsewhere", hour(4))
    world.made[9] = foreign
    world.models.set_alias(PROJECT, "champion", 9)
    with pytest.raises(
        ChampionUnclear, match=r"by hand to version 9.*rollback digits --model-version 3 --why"
    ):
        champion_of(world, world.models.get(PROJECT))
    assert rollback(world, project=PROJECT, by=Attribution("ada", hour(5), "not ours"), to=3).version == 3
    assert champion_of(world, world.models.get(PROJECT)) == world.made[3].weights_sha256


def test_rollback_to_a_deleted_version_names_it_and_changes_nothing(world: FakeRegistry) -> None:
    del world.made[2]
    before = world.models.get(PROJECT)
    with pytest.raises(ModelNotFound, match="version 2"):
        rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "bad"))
    assert world.models.get(PROJECT) == before


def test_rollback_needs_a_reason_and_a_champion(world: FakeRegistry) -> None:
    with pytest.raises(ReasonMissing, match="--why"):
        rollback(world, project=PROJECT, by=Attribution("ada", hour(4), ""))
    with pytest.raises(NothingToRollBackTo, match="no model in production"):
        rollback(FakeRegistry(), project=PROJECT, by=Attribution("ada", hour(4), "bad"))


def test_release_after_a_rollback_lets_the_next_challenger_through(world: FakeRegistry) -> None:
    rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "bad"))
    release(world, project=PROJECT, by=Attribution("ada", hour(5), "lens cleaned"))
    verdict = judged(world, trained(world, "four"))
    promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(6))
    now = production(world.models.get(PROJECT))
    assert now.version == 4 and not now.on_hold
    assert [(each.version, each.start, each.end) for each in now.intervals[-2:]] == [
        (2, hour(4), hour(6)),
        (4, hour(6), None),
    ]


def test_rollback_of_one_device_group_leaves_the_others_alone(world: FakeRegistry) -> None:
    canary = judged(world, trained(world, "canary"), group="line-4")
    promote(world, project=PROJECT, verdict=canary.identity, who="ada", when=hour(4), group="line-4")
    rollback(world, project=PROJECT, by=Attribution("ada", hour(5), "bad"), to=3, group="line-4")
    model = world.models.get(PROJECT)
    assert model.aliases == {"champion": 3, "champion-line-4": 3}
    assert production(model, "line-4").on_hold and not production(model).on_hold


def test_a_group_that_is_retired_runs_what_all_runs_and_nothing_else_changes(world: FakeRegistry) -> None:
    canary = judged(world, trained(world, "canary"), group="line-4")
    promote(world, project=PROJECT, verdict=canary.identity, who="ada", when=hour(4), group="line-4")
    change = retire(world, project=PROJECT, by=Attribution("ada", hour(5), "moved"), group="line-4")
    model = world.models.get(PROJECT)
    assert change.changed and model.aliases == {"champion": 3} and version_on(model, "line-4") == 3
    assert not retire(world, project=PROJECT, by=Attribution("ada", hour(6), "moved"), group="line-4").changed
    with pytest.raises(NothingToRollBackTo):
        retire(world, project=PROJECT, by=Attribution("ada", hour(6), "moved"), group="line-9")
    assert production(model).version == 3 and not production(model).on_hold


def test_a_group_without_a_champion_of_its_own_is_unclear_where_that_of_all_is(world: FakeRegistry) -> None:
    model = world.models.get(PROJECT)
    assert champion_of(world, model, "line-4") == champion_of(world, model)
    world.models.delete_alias(PROJECT, "champion")
    model = world.models.get(PROJECT)
    with pytest.raises(
        ChampionUnclear, match=r"removed by hand.*`visionops rollback digits --model-version 3 --why"
    ):
        champion_of(world, model, "line-4")
    # One that has its own runs that.
    world.models.set_alias(PROJECT, "champion-line-4", 2)
    with pytest.raises(ChampionUnclear, match=r"champion-line-4 .* was set by hand to version 2"):
        champion_of(world, world.models.get(PROJECT), "line-4")


def test_a_group_gets_only_what_was_in_production_and_can_go_back(world: FakeRegistry) -> None:
    given: dict[str, Any] = {"project": PROJECT, "group": "line-1"}

    def by(at: int, why: str = "its lamp is older") -> Attribution:
        return Attribution("ada", hour(at), why)

    first = deliver_to_group(world, by=by(4), version=2, **given)
    model = world.models.get(PROJECT)
    assert first.entry is not None
    assert (first.entry.kind, first.entry.from_version, first.entry.to_version) == ("delivery", 3, 2)
    assert (version_on(model, "line-1"), version_on(model)) == (2, 3)
    assert production(model, "line-1").incomplete is None and not production(model, "line-1").foreign
    assert not deliver_to_group(world, by=by(5), version=2, **given).changed
    with pytest.raises(VerdictNotPassed, match="version 4 of digits was never in production"):
        deliver_to_group(world, by=by(5), version=4, **given)
    with pytest.raises(ReasonMissing):
        deliver_to_group(world, by=by(5, ""), version=1, **given)
    # It goes back to what it ran before it had a champion of its own.
    rollback(world, by=by(6), **given)
    assert version_on(world.models.get(PROJECT), "line-1") == 3
    with pytest.raises(OnHold, match="release digits --group line-1"):
        deliver_to_group(world, by=by(7), version=1, **given)
    with pytest.raises(OnHold, match="release digits --group line-1"):
        deliver_to_group(world, by=by(7), version=2, **given)
    release(world, project=PROJECT, by=by(8), group="line-1")
    assert deliver_to_group(world, by=by(8), version=2, **given).changed
    hold(world, project=PROJECT, by=by(9), group="line-1")
    assert deliver_to_group(world, by=by(9), version=3, **given).changed, "it ran there, and nobody left it"


@pytest.mark.parametrize("last", STEPS)
def test_a_delivery_that_is_killed_is_incomplete_and_can_be_made_again(
    world: FakeRegistry, last: str
) -> None:
    def stop(step: str) -> None:
        if step == last:
            raise SystemExit

    given: dict[str, Any] = {"project": PROJECT, "group": "line-1", "version": 2}

    def by(at: int) -> Attribution:
        return Attribution("ada", hour(at), "its lamp is older")

    with pytest.raises(SystemExit):
        deliver_to_group(world, by=by(4), on_step=stop, **given)
    model = world.models.get(PROJECT)
    now = production(model, "line-1")
    arrived = last == "aliased"
    assert not now.foreign and now.version == (2 if arrived else None)
    assert (now.incomplete is not None) == (last in ("recorded", "tagged"))
    assert version_on(model) == 3
    assert deliver_to_group(world, by=by(5), **given).changed == (not arrived)
    now = production(world.models.get(PROJECT), "line-1")
    assert (now.version, now.incomplete, now.foreign) == (2, None, False)
    assert now.was_before() == 3


@pytest.mark.parametrize("write", range(6))
def test_groups_that_follow_go_back_with_all_wherever_that_is_killed(world: FakeRegistry, write: int) -> None:
    for number, group in enumerate(("line-1", "line-2", "line-3", "line-4"), start=4):
        deliver_to_group(world, project=PROJECT, group=group, by=Attribution("ada", hour(number), "its own"))
    back = rollback(world, project=PROJECT, by=Attribution("ada", hour(8), "bad"))
    deliver_to_group(
        world, project=PROJECT, group="line-3", by=Attribution("ada", hour(9), "it needs it"), version=1
    )
    rollback(world, project=PROJECT, by=Attribution("ada", hour(9), "no"), group="line-3", to=3)
    follow = ["line-1", "line-2", "line-3", "line-5"]

    def along() -> dict[str, int | None]:
        found = take_along(
            world, back, project=PROJECT, follow=follow, by=Attribution("ada", hour(10), "bad")
        )
        return {group: change.version for group, change in found.items()}

    world.writes, world.kill_at = 0, write
    with pytest.raises(Killed):
        along()
    world.kill_at = None
    along()
    model = world.models.get(PROJECT)
    runs = {group: production(model, group).version for group in ("line-1", "line-2", "line-3", "line-4")}
    assert runs == {"line-1": 2, "line-2": 2, "line-3": 3, "line-4": 3}
    assert production(model, "line-1").incomplete is None
    assert along() == {}
