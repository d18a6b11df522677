"""Which verdicts a person's answer or a release carries out."""

import pytest
from promotion_world import PROJECT, FakeRegistry, hour, judged, trained

from visionops_assets.common.errors import PromotionRefused, VerdictMissing
from visionops_assets.evaluation.approvals import approve, override, reject
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.promotion.production_change import Attribution
from visionops_assets.promotion.promote import (
    WaitingVerdicts,
    champion_of,
    newest_decision,
    promote,
    waiting_of,
)
from visionops_assets.promotion.rollback import hold, rollback
from visionops_assets.promotion.status import status


@pytest.fixture
def world() -> FakeRegistry:
    """Versions 1 and 2 were promoted at hours 1 and 2."""
    world = FakeRegistry()
    for number, name in enumerate(("one", "two"), start=1):
        verdict = judged(world, trained(world, name), when=hour(number))
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(number))
    return world


def waiting(world: FakeRegistry) -> WaitingVerdicts:
    model = world.models.get(PROJECT)
    return waiting_of(model, champion_of(world, model))


def ready(world: FakeRegistry, approval: str = "auto") -> str | None:
    found = waiting(world).ready("manual" if approval == "manual" else "auto")
    return None if found is None else found.identity


def judged_as(world: FakeRegistry, name: str, at: float, outcome: str = "PASS") -> Verdict:
    return judged(world, trained(world, name), "PASS" if outcome == "PASS" else "FAIL", when=hour(at))


def test_the_newest_pass_made_on_hold_is_ready(world: FakeRegistry) -> None:
    hold(world, project=PROJECT, by=Attribution("ada", hour(3), "audit"))
    judged_as(world, "three", 4)
    judged_as(world, "poisoned", 5, "FAIL")
    newest = judged_as(world, "four", 6)
    assert ready(world) == newest.identity
    text = status(world, PROJECT, alpha=0.05).to_text()
    assert f"lifts it and promotes verdict {newest.identity[:12]}" in " ".join(text.split())


def test_a_version_that_was_rolled_back_is_not_ready_though_it_passed_against_this_champion(
    world: FakeRegistry,
) -> None:
    rollback(world, project=PROJECT, by=Attribution("ada", hour(3), "scratches"))
    assert ready(world) is None and waiting(world).verdicts == ()


def test_a_pass_that_was_passed_over_does_not_come_back_after_a_rollback(world: FakeRegistry) -> None:
    judged_as(world, "three", 3)
    chosen = judged_as(world, "four", 4)
    promote(world, project=PROJECT, verdict=chosen.identity, who="sensor", when=hour(5))
    rollback(world, project=PROJECT, by=Attribution("ada", hour(6), "scratches"))
    assert ready(world) is None
    with pytest.raises(VerdictMissing, match="no PASS of digits waits"):
        waiting(world).only()


def test_where_people_decide_only_what_they_let_through_is_ready(world: FakeRegistry) -> None:
    first, second = judged_as(world, "three", 3), judged_as(world, "four", 4)
    assert ready(world, "manual") is None
    with pytest.raises(VerdictMissing, match="2 verdicts of digits wait, name one"):
        waiting(world).only()
    approve(world, PROJECT, first.identity, who="ada", when=hour(5))
    assert ready(world, "manual") == first.identity
    reject(world, PROJECT, first.identity, who="ada", when=hour(6), why="lens")
    assert ready(world, "manual") is None
    assert waiting(world).only().identity == second.identity


def test_an_override_is_ready_whatever_the_verdict_says(world: FakeRegistry) -> None:
    failed = judged_as(world, "three", 3, "FAIL")
    assert ready(world) is None
    override(world, PROJECT, failed.identity, who="ada", when=hour(4), why="labels changed")
    assert ready(world) == failed.identity


@pytest.mark.parametrize("again", ["labels changed", "they changed again"])
def test_what_was_overridden_and_left_is_ready_again_once_it_is_overridden_again(
    world: FakeRegistry, again: str
) -> None:
    failed = judged_as(world, "three", 3, "FAIL")
    override(world, PROJECT, failed.identity, who="ada", when=hour(4), why="labels changed")
    promote(world, project=PROJECT, verdict=failed.identity, who="sensor", when=hour(5))
    rollback(world, project=PROJECT, by=Attribution("ada", hour(6), "scratches"))
    assert ready(world) is None

    override(world, PROJECT, failed.identity, who="ada", when=hour(7), why=again)

    assert ready(world) == failed.identity
    text = " ".join(status(world, PROJECT, alpha=0.05).to_text().split())
    assert f"lifts it and promotes verdict {failed.identity[:12]}" in text


def test_what_runs_already_is_not_overridden(world: FakeRegistry) -> None:
    running = judged_as(world, "three", 3)
    promote(world, project=PROJECT, verdict=running.identity, who="sensor", when=hour(4))
    with pytest.raises(
        PromotionRefused, match=r"version 3 .* in production already.* a PASS needs no override"
    ):
        override(world, PROJECT, running.identity, who="ada", when=hour(5), why="sure")
    assert running.identity not in waiting(world).answers


def test_an_override_said_twice_is_one_answer(world: FakeRegistry) -> None:
    failed = judged_as(world, "three", 3, "FAIL")
    first = override(world, PROJECT, failed.identity, who="ada", when=hour(4), why="labels changed")
    promote(world, project=PROJECT, verdict=failed.identity, who="sensor", when=hour(5))
    assert override(world, PROJECT, failed.identity, who="ada", when=hour(6), why="labels changed") == first
    with pytest.raises(PromotionRefused, match=r"nothing to override$"):
        override(world, PROJECT, failed.identity, who="ada", when=hour(7), why="sure")


def test_an_old_verdict_is_ready_again_when_a_person_says_so_after_the_rollback(world: FakeRegistry) -> None:
    passed_over = judged_as(world, "three", 3)
    chosen = judged_as(world, "four", 4)
    promote(world, project=PROJECT, verdict=chosen.identity, who="sensor", when=hour(5))
    rollback(world, project=PROJECT, by=Attribution("ada", hour(6), "scratches"))
    approve(world, PROJECT, passed_over.identity, who="ada", when=hour(7))
    assert ready(world) == passed_over.identity


def test_a_promotion_killed_before_the_alias_still_waits(world: FakeRegistry) -> None:
    verdict = judged_as(world, "three", 3)

    def stop(step: str) -> None:
        if step == "recorded":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(4), on_step=stop)
    assert ready(world) == verdict.identity


def test_the_newest_decision_is_against_the_present_champion(world: FakeRegistry) -> None:
    failed = judged_as(world, "three", 3, "FAIL")
    model = world.models.get(PROJECT)
    assert newest_decision(model, champion_of(world, model)).identity == failed.identity
    with pytest.raises(VerdictMissing, match="no decision against the present champion"):
        newest_decision(model, "f" * 64)
