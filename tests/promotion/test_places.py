"""Places among a champion's challengers: what tests something takes one, and what does not takes none."""

import random
from collections.abc import Callable

from promotion_world import PROJECT, FakeRegistry

from visionops_assets.evaluation.ledger import HoldoutSize, next_turn
from visionops_assets.evaluation.rules import GateRules
from visionops_assets.evaluation.verdicts import Reservation, read_ledger, reserve

CHAMPION, ENOUGH = "z" * 64, HoldoutSize(40, 40, True)


def ask(world: FakeRegistry, name: str, holdout: HoldoutSize, rules: GateRules) -> Reservation:
    return reserve(
        world,
        PROJECT,
        challenger=name * 64,
        champion=CHAMPION,
        verdict="v" * 64,
        rules=rules,
        holdout=holdout,
    )


def following(world: FakeRegistry, rules: GateRules) -> int:
    return next_turn(CHAMPION, read_ledger(world.models.get(PROJECT).tags, rules))


def test_weeks_on_too_small_a_holdout_leave_the_whole_level() -> None:
    world, rules = FakeRegistry(), GateRules(min_holdout=30)
    for week, images in enumerate((8, 16, 24)):
        assert ask(world, "abc"[week], HoldoutSize(images, images, True), rules).k == 1
        assert following(world, rules) == 1
    assert ask(world, "d", ENOUGH, rules) == Reservation(1, new=True)
    assert following(world, rules) == 2
    assert ask(world, "a", ENOUGH, rules).k == 2, "it was never tested"


def test_of_many_that_were_seen_on_too_few_images_the_best_pays_for_all_when_the_rule_is_lowered() -> None:
    world, rules, lowered = FakeRegistry(), GateRules(min_holdout=30), GateRules(min_holdout=10)
    for name in "abcdef":
        ask(world, name, HoldoutSize(20, 20, True), rules)
    assert ask(world, "g", ENOUGH, rules).k == 1
    assert following(world, lowered) == 8
    assert ask(world, "c", HoldoutSize(20, 20, True), lowered).k == 7
    assert ask(world, "c", HoldoutSize(20, 20, True), lowered) == Reservation(7, new=False)
    assert following(world, rules) == 8, "a place that was taken is never given again"


def test_whatever_is_asked_under_whatever_rules_every_test_has_a_level_of_its_own(
    count: Callable[[int, int], int],
) -> None:
    for seed in range(count(20, 400)):
        draw, world = random.Random(seed), FakeRegistry()
        tested: dict[tuple[str, str], int] = {}
        seen: list[tuple[tuple[str, str], HoldoutSize]] = []
        for _ in range(25):
            images = draw.choice((8, 20, 40))
            holdout = HoldoutSize(images, draw.choice((1, 4, images)), True)
            rules = GateRules(
                min_holdout=draw.choice((10, 30)),
                require=draw.choice(("superior", "non_inferior")),
                alpha=draw.choice((0.05, 0.2)),
            )
            name = draw.choice("abcd")
            claim = (name, rules.claim())
            before = {each for each, size in seen if rules.can_pass_on(size)}
            found = ask(world, name, holdout, rules)
            seen.append((claim, holdout))
            if not rules.can_pass_on(holdout):
                continue
            if claim in tested:
                assert found.k == tested[claim]
            else:
                assert found.k not in tested.values()
                assert found.k > len((before | tested.keys()) - {claim})
                tested[claim] = found.k
