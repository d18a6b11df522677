"""A PASS for one device group alone, and what groups wait for."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from promotion_world import PROJECT, FakeRegistry, Killed, hour, judged, trained

from visionops_assets.champions.history import production
from visionops_assets.champions.registered_model import ANSWER_ENTRIES, answers_on
from visionops_assets.common.errors import ChampionMoved, OnHold, Rejected, VerdictMissing, VerdictNotPassed
from visionops_assets.evaluation.approvals import approve, reject
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.promotion.group_approvals import approve_on_group, waits_of_groups
from visionops_assets.promotion.production_change import Attribution, deliver_to_group
from visionops_assets.promotion.promote import champion_of, promote, waiting_of
from visionops_assets.promotion.rollback import hold, release, rollback

LINE: dict[str, Any] = {"project": PROJECT, "group": "line-1"}


def by(at: float) -> Attribution:
    return Attribution("ada", hour(at), "because")


@pytest.fixture
def world() -> FakeRegistry:
    """Version 1 is champion of all."""
    found = FakeRegistry()
    first = judged(found, trained(found, "one"))
    promote(found, project=PROJECT, verdict=first.identity, who="sensor", when=hour(1))
    return found


@pytest.fixture
def second(world: FakeRegistry) -> Verdict:
    """A PASS of another challenger, which waits."""
    return judged(world, trained(world, "two"), when=hour(2))


def unanswered(world: FakeRegistry, group: str = "all") -> list[str]:
    model = world.models.get(PROJECT)
    found = waiting_of(model, champion_of(world, model, group), group).unanswered()
    return [each.identity for each in found]


def test_it_is_the_groups_champion_and_waits_for_all_others(world: FakeRegistry, second: Verdict) -> None:
    change = approve_on_group(world, by=by(4), **LINE)
    assert change.changed and change.entry is not None
    assert (change.entry.kind, change.entry.from_version, change.entry.who) == ("promotion", 1, "ada")
    model = world.models.get(PROJECT)
    assert model.aliases == {"champion": 1, "champion-line-1": 2}
    assert unanswered(world) == unanswered(world, "line-2") == [second.identity]
    assert unanswered(world, "line-1") == []
    assert not approve_on_group(world, by=by(5), verdict=second.identity[:9], **LINE).changed
    with pytest.raises(
        VerdictMissing, match=r"no PASS of digits waits for an answer on line-1: .*--group line-1"
    ):
        approve_on_group(world, by=by(5), **LINE)
    # Left again, it is back at what all run.
    assert rollback(world, by=by(6), **LINE).version == 1


def test_what_is_refused_is_not_recorded(world: FakeRegistry, second: Verdict) -> None:
    hold(world, by=by(2), **LINE)
    with pytest.raises(
        OnHold, match=r"line-1 of digits is on hold .*`visionops release digits --group line-1"
    ):
        approve_on_group(world, by=by(3), **LINE)
    release(world, by=by(4), **LINE)
    hold(world, project=PROJECT, by=by(4))
    with pytest.raises(OnHold, match="`visionops release digits --why TEXT`"):
        approve_on_group(world, by=by(5), **LINE)
    release(world, project=PROJECT, by=by(6))
    failed = judged(world, trained(world, "three"), "FAIL")
    with pytest.raises(VerdictNotPassed):
        approve_on_group(world, by=by(7), verdict=failed.identity, **LINE)
    assert answers_on(world.models.get(PROJECT).tags, "line-1") == {}

    # A group of another champion was judged against by nobody.
    promote(world, project=PROJECT, verdict=second.identity, who="sensor", when=hour(8))
    deliver_to_group(world, by=by(9), version=1, **LINE)
    third = judged(world, trained(world, "four"))
    with pytest.raises(ChampionMoved, match="another champion than version 1, which line-1 runs"):
        approve_on_group(world, by=by(10), verdict=third.identity, **LINE)
    assert answers_on(world.models.get(PROJECT).tags, "line-1") == {}


def test_the_last_answer_counts_on_a_group_whether_for_it_or_for_all(
    world: FakeRegistry, second: Verdict
) -> None:
    def tags() -> Mapping[str, str]:
        return world.models.get(PROJECT).tags

    approve(world, PROJECT, second.identity, who="ada", when=hour(2), group="line-1")
    assert "group" in tags()[f"{ANSWER_ENTRIES}000001"] and answers_on(tags()) == {}
    reject(world, PROJECT, second.identity, who="bob", when=hour(3), why="wrong lens")
    assert "group" not in tags()[f"{ANSWER_ENTRIES}000002"], "as earlier releases read it"
    with pytest.raises(Rejected):
        promote(world, project=PROJECT, verdict=second.identity, who="x", when=hour(4), group="line-1")
    approve(world, PROJECT, second.identity, who="ada", when=hour(5), group="line-1")
    assert answers_on(tags(), "line-1")[second.identity].kind == "approve"
    assert answers_on(tags())[second.identity].kind == "reject"


@pytest.mark.parametrize("write", range(1, 9))
def test_killed_at_any_write_the_same_again_completes_it(
    world: FakeRegistry, second: Verdict, write: int
) -> None:
    world.kill_at = world.writes + write
    with suppress(Killed):
        approve_on_group(world, by=by(4), **LINE)
    world.kill_at = None
    now = production(world.models.get(PROJECT), "line-1")
    assert not now.foreign, "nobody moved it by hand"
    approve_on_group(world, by=by(5), verdict=second.identity, **LINE)
    now = production(world.models.get(PROJECT), "line-1")
    assert (now.version, now.incomplete, now.foreign) == (2, None, False)
    assert production(world.models.get(PROJECT)).version == 1


def test_what_groups_wait_for_is_one_sentence_for_those_that_wait_for_the_same(
    world: FakeRegistry, second: Verdict
) -> None:
    name = second.identity[:12]
    (said,) = waits_of_groups(world, PROJECT, ["line-1", "line-2"])
    assert f"verdict {name} (" in said and "passed and waits on line-1, line-2: " in said
    assert f"`visionops approve digits {name} --group line-1` puts it on line-1 alone" in said
    assert said.endswith(f"`visionops approve digits {name}` on all")
    hold(world, by=by(3), **LINE)
    held, other = waits_of_groups(world, PROJECT, ["line-1", "line-2"])
    assert held.endswith(
        "waits on line-1, on hold: `visionops release digits --group line-1 --why TEXT` lifts it"
    )
    assert "waits on line-2: " in other
    approve_on_group(world, by=by(4), project=PROJECT, group="line-2")
    (said,) = waits_of_groups(world, PROJECT, ["line-1", "line-2"])
    assert "line-2" not in said
