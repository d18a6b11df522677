"""A pass over rollouts: what a verdict leads to, what somebody else's change leads to, and every write of it killed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rollout_world import BUNDLES, GROUP, RULES, RolloutWorld

from edge.blocks import LATENCY_MS
from tests.operations_table import require_told
from tests.promotion.promotion_world import PROJECT, hour
from tests.world import shapes_project
from visionops_assets.champions.history import production, read_history
from visionops_assets.common.errors import ChampionMoved, OnHold
from visionops_assets.delivery.rolling_out import conduct, looked_at
from visionops_assets.delivery.rollout_looks import stored_look
from visionops_assets.delivery.rollout_page import RolloutNow
from visionops_assets.delivery.rollout_reports import Told
from visionops_assets.delivery.rollout_steps import Step, append, carry_out
from visionops_assets.promotion.production_change import Attribution, deliver_to_group
from visionops_assets.promotion.rollback import hold, release, rollback
from visionops_assets.rollout.rollouts import Entry, led_on

ADA = Attribution("ada", hour(2.5), "it is time")


def led(tmp_path: Path, **options: object) -> RolloutWorld:
    """A group whose devices run version 1, of a project that promoted version 2: its first wave is assigned."""
    world = RolloutWorld(tmp_path, **options)  # type: ignore[arg-type]
    world.report()
    assert world.go() == [f"{GROUP} is led by rollouts from now on: version 1 is its own champion"]
    world.promote("two", 3.05)
    world.later(0.1)
    world.report()
    (said,) = world.go()
    assert said == f"{GROUP}: the rollout {world.newest.id} begins"
    return world


def did_well(world: RolloutWorld) -> None:
    """The devices of the wave tried it and reported; nobody looked yet."""
    world.later(0.02)
    world.try_it()
    world.later()
    world.report()


def does_well(world: RolloutWorld) -> list[str]:
    did_well(world)
    return world.go()


def test_a_promotion_of_all_goes_through_waves_and_becomes_the_groups_own(tmp_path: Path) -> None:
    world = led(tmp_path)
    assert (world.newest.version, world.newest.base, world.newest.wave) == (2, 1, 0)
    assert world.assignment["candidate"]["bundle"] == BUNDLES[2] and len(world.in_wave()) == 2
    assert world.go() == [], "a wave lasts"
    assert does_well(world)[0].startswith("line-1: PASS, wave 1 of 3 did well: the next has 4 devices")
    assert len(world.in_wave()) == 4
    does_well(world)
    assert len(world.in_wave()) == 8 and production(world.model, GROUP).version == 1
    said = does_well(world)
    assert said[-1] == "line-1 completed its rollout: version 2 is its own champion"
    entry = read_history(world.model.tags).entries[-1]
    assert (entry.kind, entry.verdict, entry.from_version) == ("delivery", world.newest.id, 1)
    assert world.stands()["runs"] == 2 and world.assignment["candidate"] is None
    world.later(100)
    world.report()
    assert world.go() == []


def test_what_fails_goes_back_and_its_group_is_held_until_somebody_releases_it(tmp_path: Path) -> None:
    world = led(tmp_path)
    world.try_it(*world.in_wave())
    world.report()
    said = world.go()
    assert said[0].startswith("line-1: FAIL, safety: 2 of 2 devices failed")
    assert said[1].startswith("line-1 is on hold: safety: 2 of 2 devices failed")
    now = production(world.model, GROUP)
    assert (now.version, now.held_by and now.held_by.verdict) == (1, world.newest.id)
    assert world.assignment["candidate"] is None and world.newest.ended == "FAIL"
    # Nobody runs what all are promoted to, so they are held, too.
    held = production(world.model).held_by
    assert held is not None and "every device group refused version 2" in held.why
    # Released, it is not tried again by itself; another version is.
    release(world.registry, project=PROJECT, by=ADA)
    release(world.registry, project=PROJECT, by=ADA, group=GROUP)
    assert world.go() == [] and len(world.rollouts) == 1
    world.promote("three", 5)
    world.later(3)
    world.report()
    world.go()
    assert (world.newest.version, world.newest.base) == (3, 1)


def test_what_a_person_gave_a_group_since_it_keeps(tmp_path: Path) -> None:
    world = led(tmp_path)
    for _ in range(3):
        does_well(world)
    by = replace(ADA, when=world.time())
    deliver_to_group(world.registry, project=PROJECT, group=GROUP, by=by, version=1)
    world.later()
    world.report()
    assert world.go() == [] and world.stands()["runs"] == 1
    world.promote("three", world.now)
    world.later()
    world.report()
    world.go()
    assert (world.newest.version, world.newest.base) == (3, 1)


def test_what_a_person_gives_a_group_between_a_look_and_its_step_stays(tmp_path: Path) -> None:
    world = led(tmp_path)
    step = Step("deliver", GROUP, 2, "did well", world.newest)
    world.promote("three", world.now)
    by = replace(ADA, when=world.time())
    deliver_to_group(world.registry, project=PROJECT, group=GROUP, by=by, version=3)
    with pytest.raises(ChampionMoved, match="runs version 3 now, not version 1"):
        carry_out(world.registry, world.project, step, {}, world.time())
    with pytest.raises(ChampionMoved, match="not what all run"):
        carry_out(world.registry, world.project, Step("adopt", GROUP, 1, "led"), {}, world.time())
    assert production(world.model, GROUP).version == 3


def test_undecided_it_waits_for_a_person_and_tells_it_once(tmp_path: Path) -> None:
    world = led(tmp_path)
    world.later(47)
    world.report()
    assert world.go() == []
    world.later(2)
    world.report()
    (said,) = world.go()
    assert (
        "INSUFFICIENT, not decided within its time; it lacks: 0 of 2 devices have an outcome: 2 more" in said
    )
    assert world.newest.held and world.newest.wave == 0 and production(world.model, GROUP).version == 1
    world.later(100)
    world.report()
    assert world.go() == []
    look = stored_look(world.project, world.store, world.newest.id)
    assert look is not None and look.decision.page
    require_told(
        "a rollout is undecided beyond its time", RolloutNow(PROJECT, world.newest, (), look).sentence()
    )
    # Overridden, it goes on.
    append(
        world.registry,
        PROJECT,
        lambda _: led_on(world.newest, "wave", when=world.time(), who="ada", why="seen"),
    )
    world.go()
    assert (world.newest.wave, world.newest.held) == (1, "")


@pytest.mark.parametrize(
    "how", ["rollback of the group", "another version", "rollback of all", "not declared"]
)
def test_a_base_that_somebody_moves_ends_it_without_a_hold_of_its_own(tmp_path: Path, how: str) -> None:
    world = RolloutWorld(tmp_path)
    world.report()
    world.go()
    world.promote("two", 3.05)
    world.promote("three", 3.06)
    world.later(0.1)
    world.report()
    world.go()
    assert world.newest.version == 3
    by = replace(ADA, when=world.time())
    if how == "rollback of the group":
        rollback(world.registry, project=PROJECT, by=by, to=2, group=GROUP)
    elif how == "another version":
        deliver_to_group(world.registry, project=PROJECT, group=GROUP, by=by, version=2)
    elif how == "rollback of all":
        rollback(world.registry, project=PROJECT, by=by)
    world.later(0.1)
    if how == "not declared":
        undeclared = shapes_project(project=PROJECT)
        conduct(undeclared, world.registry, world.store, world.running(), world.time())
    else:
        world.go()
    (first, *_) = world.rollouts
    assert (first.ended, first.why.startswith("base moved: ")) == ("FAIL", True)
    held = production(world.model, GROUP).held_by
    assert (held is not None) == (how == "rollback of the group") and (
        held is None or held.kind == "rollback"
    )
    assert (world.assignment["candidate"] or {}).get("rollout") != first.id or how == "not declared"


def test_only_the_newest_promotion_waits_and_supersedes_where_the_file_says_so(tmp_path: Path) -> None:
    for supersede in (False, True):
        world = led(tmp_path / str(supersede))
        world.rules = {**world.rules, "supersede": supersede}
        world.promote("three", world.now)
        world.later(0.01)
        world.go()
        if supersede:
            assert [each.ended for each in world.rollouts] == ["SUPERSEDED", ""]
            assert not production(world.model, GROUP).on_hold
        else:
            assert len(world.rollouts) == 1
            for _ in range(3):
                does_well(world)
            assert production(world.model, GROUP).version == 2
        assert (world.newest.version, world.newest.base) == (3, 1 if supersede else 2)


def test_on_hold_or_paused_nothing_goes_on_and_a_fail_goes_back_all_the_same(tmp_path: Path) -> None:
    world = led(tmp_path)
    hold(world.registry, project=PROJECT, by=ADA, group=GROUP)
    assert does_well(world) == [] and world.newest.wave == 0
    release(world.registry, project=PROJECT, by=ADA, group=GROUP)
    append(
        world.registry, PROJECT, lambda _: led_on(world.newest, "pause", when=world.time(), who="ada", why="")
    )
    assert world.go() == []
    append(
        world.registry,
        PROJECT,
        lambda _: led_on(world.newest, "resume", when=world.time(), who="ada", why=""),
    )
    world.go()
    assert world.newest.wave == 1
    append(
        world.registry, PROJECT, lambda _: led_on(world.newest, "pause", when=world.time(), who="ada", why="")
    )
    world.later(0.1)
    world.try_it(*world.in_wave())
    world.report()
    world.go()
    assert world.newest.ended == "FAIL"


def test_a_group_whose_devices_are_not_heard_of_waits_with_its_rollout(tmp_path: Path) -> None:
    world = RolloutWorld(tmp_path)
    world.go()
    world.promote("two", 3.05)
    world.later(0.1)
    assert world.go() == [] and world.rollouts == []
    (said,) = looked_at(world.project, world.registry, world.store, world.running(), world.time()).waits
    assert "line-1 waits with version 2: a rollout begins once a device of it was heard of" in said


def test_reports_of_devices_of_no_arm_count_for_nothing_and_are_named(tmp_path: Path) -> None:
    world = led(tmp_path)
    outside = next(name for name in world.names if name not in world.in_wave())
    for name in (outside, "cam-99"):
        world.told.setdefault(name, type(next(iter(world.told.values())))())
        world.told[name].ended[BUNDLES[2]] = ("rolled_back", "crash", "")
    world.report()
    assert world.go() == []
    look = stored_look(world.project, world.store, world.newest.id)
    assert look is not None and look.verdict.evidence.failed == 0
    assert [each.split()[0] for each in look.strangers] == [outside, "cam-99"]
    assert "wave 1 is not for it" in look.strangers[0] and "fleet provision PROJECT" in look.strangers[0]
    assert (
        "it is not enrolled in line-1" in look.strangers[1]
        and "`visionops fleet move PROJECT " in look.strangers[1]
    )


def test_who_tries_it_owes_an_outcome_however_seldom_reports_are_collected(tmp_path: Path) -> None:
    """By a tick an hour, no device was heard of within an interval before it tries it."""
    world = led(tmp_path)
    world.later(1)
    bundle, now = BUNDLES[2], world.time().timestamp()
    for name in world.in_wave():
        world.told[name].began[bundle] = (now, world.told[name].last_report)
    world.told[world.in_wave()[0]].ended[bundle] = ("committed", "", "")
    world.report()
    assert world.go() == []
    look = stored_look(world.project, world.store, world.newest.id)
    assert look is not None and look.verdict.evidence.cohort == 2
    assert look.verdict.missing[0] == "1 of 2 devices have an outcome: 1 more"
    world.later()
    world.report()
    assert world.go() == [] and world.newest.wave == 0


def test_how_long_strangers_take_does_not_count(tmp_path: Path) -> None:
    world = led(tmp_path, rules={**RULES, "p99_ms": 10.0})
    slow, quick = [0] * (len(LATENCY_MS) + 1), [0] * (len(LATENCY_MS) + 1)
    slow[-1], quick[0] = 1000, 1_000_000
    world.told["cam-99"] = Told(answers={BUNDLES[2]: quick})
    for name in world.in_wave():
        world.told[name].answers[BUNDLES[2]] = slow
    assert does_well(world) == [] and world.newest.wave == 0
    look = stored_look(world.project, world.store, world.newest.id)
    assert look is not None and "99 of 100 answers" in look.verdict.missing[0]


def test_a_group_whose_step_is_refused_keeps_no_other_from_its_own(tmp_path: Path) -> None:
    world = led(tmp_path)
    rollout = world.newest
    complete = Entry(rollout.id, GROUP, "complete", world.time(), "ada", "seen")
    append(world.registry, PROJECT, lambda _: complete)
    hold(world.registry, project=PROJECT, by=ADA, group=GROUP)
    rules = {"rollout": dict(RULES), "report_every": 60}
    two = shapes_project(project=PROJECT, delivery={"groups": {GROUP: rules, "line-2": rules}})
    with pytest.raises(OnHold, match="line-1 of digits is on hold"):
        conduct(two, world.registry, world.store, world.running(), world.time())
    assert production(world.model, GROUP).version == 1
    assert production(world.model, "line-2").version == 2, "it was given an alias of its own"


def test_an_abort_stays_one_though_the_clock_was_ahead_at_the_promotion(tmp_path: Path) -> None:
    world = RolloutWorld(tmp_path)
    world.report()
    world.go()
    world.promote("two", 10)
    world.later(0.1)
    world.report()
    world.go()
    end = led_on(world.newest, "abort", when=world.time(), who="ada", why="not today")
    append(world.registry, PROJECT, lambda _: end)
    for hours in (0.1, 10):
        world.later(hours)
        world.report()
        assert world.go() == []
    assert [each.ended for each in world.rollouts] == ["aborted"]


def test_silence_beside_a_control_arm_that_speaks_calls_a_person_in_a_small_group(tmp_path: Path) -> None:
    world = led(tmp_path)
    first = world.in_wave()[0]
    world.later(0.02)
    bundle = BUNDLES[2]
    world.told[first].began[bundle] = (world.time().timestamp(), world.told[first].last_report)
    world.told[first].last_report = world.time().timestamp()
    world.silent.add(first)
    world.later(0.5)
    world.report()
    assert world.go() == []
    look = stored_look(world.project, world.store, world.newest.id)
    assert look is not None and look.decision.page
    assert look.verdict.watch == ("1 of 2 devices of the wave missed their reports since they try it",)
    assert [(pair[0], pair[2:]) for pair in look.pairs] == [(first, (True, False))]
    # It comes back: what was judged stays.
    world.silent.clear()
    world.later(0.5)
    world.report()
    world.go()
    again = stored_look(world.project, world.store, world.newest.id)
    assert again is not None and again.pairs == look.pairs


def ready_to_advance(tmp_path: Path) -> RolloutWorld:
    world = led(tmp_path)
    did_well(world)
    return world


def ready_to_complete(tmp_path: Path) -> RolloutWorld:
    world = led(tmp_path)
    for _ in range(2):
        does_well(world)
    did_well(world)
    return world


def ready_to_fail(tmp_path: Path) -> RolloutWorld:
    world = led(tmp_path)
    world.try_it(*world.in_wave())
    world.report()
    return world


def ready_to_be_held(tmp_path: Path) -> RolloutWorld:
    world = led(tmp_path)
    world.later(50)
    world.report()
    return world


def ready_to_start(tmp_path: Path) -> RolloutWorld:
    world = RolloutWorld(tmp_path)
    world.report()
    world.promote("two", 2)
    world.assignment = {"base": {"bundle": BUNDLES[1]}, "candidate": None, "report_every": 60}
    return world


def ready_to_be_superseded(tmp_path: Path) -> RolloutWorld:
    world = led(tmp_path)
    world.rules = {**world.rules, "supersede": True}
    world.promote("three", world.now)
    world.later(0.01)
    return world


def moved_meanwhile(tmp_path: Path) -> RolloutWorld:
    world = led(tmp_path)
    rollback(world.registry, project=PROJECT, by=replace(ADA, when=world.time()))
    world.later(0.1)
    return world


READY: dict[str, tuple[Callable[[Path], RolloutWorld], int]] = {
    # What is made ready, and how many writes its pass has at least.
    "advance": (ready_to_advance, 2),
    "complete": (ready_to_complete, 5),
    "fail": (ready_to_fail, 3),
    "hold": (ready_to_be_held, 2),
    "start": (ready_to_start, 5),
    "supersede": (ready_to_be_superseded, 3),
    "moved": (moved_meanwhile, 2),
}


@pytest.mark.parametrize("decision", READY)
def test_killed_at_any_write_of_a_decision_the_next_pass_ends_in_the_same_state(
    tmp_path: Path, decision: str, count: Callable[[int, int], int]
) -> None:
    make, least = READY[decision]
    ready = make(tmp_path / "ready")
    before = ready.stands()
    whole = ready.copied(tmp_path / "whole")
    whole.registry.writes = 0
    whole.go()
    writes = whole.registry.writes
    assert writes >= least
    for after in (False, True):
        for at in range(int(after), writes, count(2, 1)):
            world = ready.copied(tmp_path / f"{at}-{after}")
            assert world.killed(at, after)
            world.go()
            assert world.stands() == whole.stands() != before, (decision, at, after)
            world.later(0.001)
            world.go()
            assert world.stands() == whole.stands(), "and stays there"
