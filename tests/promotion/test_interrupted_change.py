"""A promotion or rollback that dies anywhere blocks nothing, and the history ends up true."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
from promotion_world import PROJECT, FakeRegistry, Killed, hour, judged, trained

from visionops_assets.champions.history import HistoryEntry, production, read_history
from visionops_assets.common.errors import ChampionUnclear, OnHold
from visionops_assets.evaluation.verdict_store import read_ledger, reserve, store
from visionops_assets.promotion.production_change import Attribution, Change
from visionops_assets.promotion.promote import promote
from visionops_assets.promotion.rollback import release, retire, rollback

Act = Callable[[FakeRegistry], Change]


def challenge(name: str, at: float) -> Act:
    """Promote one challenger, judged against whoever is champion then."""

    def act(world: FakeRegistry) -> Change:
        verdict = judged(world, world.run_records[f"run-{name}"])
        return promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(at))

    return act


def undo(at: float) -> Act:
    """Roll back the present champion to version 1."""
    return lambda world: rollback(world, project=PROJECT, by=Attribution("ada", hour(at), "bad"), to=1)


@pytest.fixture
def world() -> FakeRegistry:
    """Version 2 is champion, version 1 was; `three` and `four` are trained."""
    world = FakeRegistry()
    for name in ("one", "two", "three", "four"):
        trained(world, name)
    challenge("one", 1)(world)
    challenge("two", 2)(world)
    for name in ("three", "four"):
        judged(world, world.run_records[f"run-{name}"])
    world.writes = 0
    return world


def killed_everywhere(world: FakeRegistry, act: Act) -> list[FakeRegistry]:
    """Copies of the world, each left behind by `act` killed before or after one of its writes."""
    undisturbed = deepcopy(world)
    act(undisturbed)
    left = []
    for number in range(undisturbed.writes):
        for after in (False, True):
            copy = deepcopy(world)
            copy.kill_at, copy.kill_after_effect = number, after
            with pytest.raises(Killed):
                act(copy)
            copy.kill_at = None
            left.append(copy)
    assert len(left) >= 6
    return left


def require_agreement(world: FakeRegistry) -> None:
    """History and alias agree, nothing is left unfinished, and the intervals join without a gap."""
    now = production(world.models.get(PROJECT))
    assert now.incomplete is None and not now.foreign
    assert now.since is not None and now.since.to_version == now.version
    assert now.intervals[-1].version == now.version and now.intervals[-1].end is None
    for earlier, later in zip(now.intervals, now.intervals[1:], strict=False):
        assert earlier.end == later.start and later.entry.from_version == earlier.version


def test_killed_promotion_tried_again_ends_like_an_undisturbed_one(world: FakeRegistry) -> None:
    undisturbed = deepcopy(world)
    challenge("three", 3)(undisturbed)
    for left in killed_everywhere(world, challenge("three", 3)):
        challenge("three", 4)(left)
        require_agreement(left)
        assert left.models.get(PROJECT).aliases == undisturbed.models.get(PROJECT).aliases
        assert sorted(left.made) == sorted(undisturbed.made)


def test_after_a_killed_promotion_another_challenger_goes_through_at_once(world: FakeRegistry) -> None:
    for left in killed_everywhere(world, challenge("three", 3)):
        change = challenge("four", 4)(left)
        require_agreement(left)
        assert change.changed and production(left.models.get(PROJECT)).version == change.version


def test_after_a_killed_promotion_a_rollback_goes_through_at_once(world: FakeRegistry) -> None:
    for left in killed_everywhere(world, challenge("three", 3)):
        undo(4)(left)
        require_agreement(left)
        assert production(left.models.get(PROJECT)).version == 1


def test_killed_rollback_tried_again_goes_through_at_once(world: FakeRegistry) -> None:
    for left in killed_everywhere(world, undo(3)):
        undo(4)(left)
        require_agreement(left)
        now = production(left.models.get(PROJECT))
        assert now.version == 1 and now.on_hold


def test_killed_rollback_keeps_the_next_challenger_out_once_it_is_recorded(world: FakeRegistry) -> None:
    recorded = 0
    for left in killed_everywhere(world, undo(3)):
        if len(read_history(left.models.get(PROJECT).tags).entries) > 2:
            recorded += 1
            with pytest.raises(OnHold):
                challenge("three", 4)(left)
            release(left, project=PROJECT, by=Attribution("ada", hour(5), "mistaken"))
        challenge("three", 6)(left)
        require_agreement(left)
    assert recorded > 0


def test_killed_restoration_or_retirement_tried_again_goes_through_at_once(world: FakeRegistry) -> None:
    def set_again(left: FakeRegistry) -> Change:
        return rollback(left, project=PROJECT, by=Attribution("ada", hour(4), "a slip"), to=2)

    def taken_out(left: FakeRegistry) -> Change:
        return retire(left, project=PROJECT, by=Attribution("ada", hour(5), "starting over"))

    moved = deepcopy(world)
    moved.models.set_alias(PROJECT, "champion", 1)
    # It is remembered that version 2 arrived: this is no promotion that was killed.
    moved.records[PROJECT] = replace(moved.records[PROJECT], confirmed={"champion": 2})
    moved.writes = 0
    for left in killed_everywhere(moved, set_again):
        set_again(left)
        now = production(left.models.get(PROJECT))
        assert now.version == 2 and not now.foreign and now.incomplete is None and not now.on_hold
    undisturbed = deepcopy(world)
    taken_out(undisturbed)
    for after in (False, True):
        for number in range(undisturbed.writes):
            left = deepcopy(world)
            left.kill_at, left.kill_after_effect = number, after
            with pytest.raises(Killed):
                taken_out(left)
            left.kill_at = None
            taken_out(left)
            now = production(left.models.get(PROJECT))
            assert now.version is None and not now.foreign and now.incomplete is None
            assert now.intervals[-1].end is not None
            assert challenge("three", 6)(left).version == 3


def test_entry_after_a_change_that_did_not_complete_says_so(world: FakeRegistry) -> None:
    world.kill_at = 2  # version, history entry, then its tags
    with pytest.raises(Killed):
        challenge("three", 3)(world)
    world.kill_at = None
    unfinished = production(world.models.get(PROJECT))
    assert unfinished.version == 2 and unfinished.incomplete is not None
    change = challenge("four", 4)(world)
    assert change.entry is not None and change.entry.voids == unfinished.incomplete.number
    assert "did not complete" in change.note and "version 3 promoted" in change.note
    assert 3 not in {each.version for each in production(world.models.get(PROJECT)).intervals}


def test_promotion_killed_again_and_again_still_goes_through(world: FakeRegistry) -> None:
    for _ in range(5):
        world.writes, world.kill_at = 0, 2
        with pytest.raises(Killed):
            challenge("three", 3)(world)
    world.kill_at = None
    challenge("three", 4)(world)
    require_agreement(world)


def test_alias_moved_by_hand_is_said_and_promotes_nothing_before_somebody_says_what_runs(
    world: FakeRegistry,
) -> None:
    challenge("three", 3)(world)
    judged(world, trained(world, "four"), when=hour(4))
    world.models.set_alias(PROJECT, "champion", 1)
    now = production(world.models.get(PROJECT))
    assert now.version == 1 and now.foreign and now.incomplete is None and now.since is None
    with pytest.raises(
        ChampionUnclear, match=r"by hand to version 1.*`visionops rollback digits --model-version 3 --why"
    ):
        challenge("four", 5)(world)
    change = rollback(world, project=PROJECT, by=Attribution("ada", hour(6), "a slip"), to=3)
    assert change.entry is not None and change.entry.kind == "restoration"
    assert (change.entry.from_version, change.entry.voids) == (1, None)
    assert "set to version 1 outside VisionOps" in change.note
    now = production(world.models.get(PROJECT))
    assert now.version == 3 and not now.foreign and now.held_by is None
    assert challenge("four", 7)(world).version == 4


def test_change_killed_after_the_alias_was_moved_by_hand_is_not_taken_for_the_truth(
    world: FakeRegistry,
) -> None:
    challenge("three", 3)(world)
    world.models.set_alias(PROJECT, "champion", 1)
    world.writes, world.kill_at = 0, 1  # the history entry, then its tags
    with pytest.raises(Killed):
        rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "a slip"), to=3)
    world.kill_at = None
    now = production(world.models.get(PROJECT))
    assert now.version == 1 and now.foreign and now.since is None and now.incomplete is not None
    assert rollback(world, project=PROJECT, by=Attribution("ada", hour(5), "a slip"), to=3).version == 3


def test_history_is_appended_to_and_never_edited(world: FakeRegistry) -> None:
    def entries() -> dict[str, str]:
        tags = world.models.get(PROJECT).tags
        return {name: value for name, value in tags.items() if name.startswith("visionops.history.")}

    before = entries()
    world.kill_at = 2
    with pytest.raises(Killed):
        challenge("three", 3)(world)
    world.kill_at = None
    challenge("four", 4)(world)
    undo(5)(world)
    after = entries()
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 3
    assert all(HistoryEntry.model_validate_json(value) for value in after.values())


def test_killed_while_a_verdict_is_stored_stores_it_the_next_time(world: FakeRegistry) -> None:
    run = trained(world, "five")
    model = deepcopy(world)
    verdict = judged(model, run)
    for number in range(2):
        for after in (False, True):
            left = deepcopy(world)
            left.writes, left.kill_at, left.kill_after_effect = 0, number, after
            with pytest.raises(Killed):
                store(left, verdict, run_id=run.id)
            left.kill_at = None
            assert store(left, verdict, run_id=run.id) == verdict
            assert promote(
                left, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(9)
            ).changed


def test_places_are_reserved_once_per_pair_and_start_again_with_a_new_champion() -> None:
    world = FakeRegistry()
    a, b, c = ("a" * 64, "b" * 64, "c" * 64)

    def place(challenger: str, champion: str | None) -> tuple[int, bool]:
        found = reserve(world, PROJECT, challenger=challenger, champion=champion, verdict="v" * 64)
        return found.k, found.new

    assert place(a, None) == (1, True)
    assert place(b, a) == (1, True)
    assert place(c, a) == (2, True)
    assert place(b, a) == (1, False)
    assert place(c, b) == (1, True)
    assert place(a, a)[1] is False and len(read_ledger(world.models.get(PROJECT).tags)) == 4
    world.models.set_tag(PROJECT, "visionops.decision.000005", "unreadable")
    assert place("d" * 64, a) == (4, True)
