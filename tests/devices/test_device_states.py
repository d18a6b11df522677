"""The table of states: what an assignment, a failure and time lead to."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from edge import formats, states
from edge.formats import Bundle, State
from edge.states import Assigned

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ONE, TWO, THREE = (
    Bundle(str(release), release, (("golden.npz", f"g{release}", 5), ("model.onnx", f"m{release}", 10)))
    for release in (1, 2, 3)
)


def runs(bundle: Bundle, previous: Bundle | None = None) -> State:
    return State(good=bundle, previous=previous, phase="IDLE", group="line-1")


def asked(state: State, base: Bundle, **more: Any) -> State:
    whole = more.pop("previous_whole", True)
    return states.assigned(state, Assigned(base, **more), more.pop("now", NOW), previous_whole=whole)


def in_trial(state: State, base: Bundle) -> State:
    state = states.fetched(asked(state, base), NOW)
    return states.tested(states.test_starts(state, NOW), "trial", NOW)


def events(state: State) -> list[str]:
    return [each["event"] for each in state.outbox]


def test_a_new_device_takes_the_base_through_every_phase() -> None:
    state = asked(State(), ONE)
    assert (state.phase, state.serving) == ("DOWNLOAD", None)
    state = states.fetched(state, NOW)
    assert state.phase == "SELFTEST"
    state = states.tested(states.test_starts(state, NOW), "trial", NOW)
    assert (state.phase, state.serving) == ("TRIAL", ONE)
    state = states.observed(states.first_answer(states.starts(state, NOW)), NOW)
    assert (state.phase, state.good, state.candidate) == ("IDLE", ONE, None)
    assert events(state) == ["assigned", "trial", "committed"]


@pytest.mark.parametrize("phase", ["DOWNLOAD", "PREPARE", "SELFTEST", "SHADOW"])
def test_only_a_trial_lets_a_candidate_answer(phase: formats.Phase) -> None:
    assert replace(runs(ONE), candidate=TWO, phase=phase).serving == ONE


def test_what_served_before_is_swapped_in_one_step_and_only_if_it_is_whole() -> None:
    state = asked(runs(TWO, previous=ONE), ONE)
    assert (state.phase, state.good, state.previous) == ("IDLE", ONE, TWO)
    assert events(state) == ["went_back"]
    assert asked(runs(TWO, previous=ONE), ONE, previous_whole=False).phase == "DOWNLOAD"
    assert asked(runs(TWO, previous=ONE), ONE, may_swap=False).good == TWO


def test_the_only_model_of_a_new_device_answers_until_there_is_another() -> None:
    state = asked(in_trial(State(), ONE), TWO)
    assert (state.phase, state.serving, state.candidate) == ("DOWNLOAD", ONE, TWO)
    # Nor is a new device anybody's first trial.
    assert asked(State(), ONE, candidate=TWO, rollout="r", arm="trial").candidate == ONE


def test_a_withdrawn_candidate_leaves_the_base_without_a_download() -> None:
    state = asked(in_trial(runs(ONE), TWO), ONE)
    assert (state.phase, state.good, state.candidate) == ("IDLE", ONE, None)
    assert events(state)[-1] == "withdrawn"


def test_starts_are_counted_before_and_end_after_three() -> None:
    state = in_trial(runs(ONE), TWO)
    for count in (1, 2, 3):
        state = states.starts(state, NOW)
        assert (state.phase, state.starts) == ("TRIAL", count)
    state = states.starts(state, NOW)
    assert (state.phase, state.serving) == ("IDLE", ONE)
    assert state.quarantined(TWO) == "start_limit"
    assert asked(state, TWO) == state


def test_a_right_answer_ends_the_count_of_starts() -> None:
    state = states.starts(states.starts(in_trial(runs(ONE), TWO), NOW), NOW)
    assert states.first_answer(state).starts == 0


def test_self_tests_that_die_are_counted_before_and_lapse_after_a_day() -> None:
    state = states.fetched(asked(runs(ONE), TWO), NOW)
    for _ in range(states.MOST_TESTS):
        state = states.test_starts(state, NOW)
        assert state.phase == "SELFTEST"
    state = states.test_starts(state, NOW)
    assert (state.phase, state.quarantined(TWO)) == ("IDLE", "selftest_died")
    assert asked(state, TWO).phase == "IDLE"
    later = states.assigned(state, Assigned(TWO), NOW + timedelta(hours=25), previous_whole=True)
    assert later.phase == "DOWNLOAD"


def test_what_is_compiled_for_a_machine_is_counted_before_and_lapses_after_a_day() -> None:
    state = states.fetched(asked(runs(ONE), TWO), NOW, prepare=True)
    for count in range(1, states.MOST_PREPARES + 1):
        state = states.prepare_starts(state, "engine-2", NOW)
        assert (state.phase, state.serving, state.preparing[1]) == ("PREPARE", ONE, count)
    assert states.prepared(state, NOW).phase == "SELFTEST"
    left = states.prepare_starts(state, "engine-2", NOW)
    assert (left.phase, left.serving, left.quarantined(TWO)) == ("IDLE", ONE, "unprepared")
    assert asked(left, TWO).phase == "IDLE"
    again = states.assigned(left, Assigned(TWO), NOW + timedelta(hours=25), previous_whole=True)
    assert again.phase == "DOWNLOAD" and states.may_prepare(again, "engine-2", NOW)


def test_what_serves_is_never_left_for_an_engine_that_cannot_be_made() -> None:
    for serving in (runs(ONE), in_trial(runs(ONE), TWO), in_trial(State(), ONE)):
        state = serving
        for _ in range(states.MOST_PREPARES + 2):
            state = states.prepare_starts(state, "engine", NOW)
        assert state == replace(serving, preparing=state.preparing)
        assert not states.may_prepare(state, "engine", NOW)
        # A clock that went back holds nothing for years; another runtime is another engine.
        assert states.may_prepare(state, "engine", NOW - timedelta(days=9))
        assert states.may_prepare(state, "engine", NOW + timedelta(hours=25))
        assert states.may_prepare(state, "other", NOW)


@pytest.mark.parametrize("why", ["selftest", "crash", "not_finite", "start_limit", "memory", "loop"])
def test_a_models_own_fault_does_not_lapse(why: str) -> None:
    state = states.failed(in_trial(runs(ONE), TWO), why, NOW)
    later = states.assigned(state, Assigned(TWO), NOW + timedelta(days=400), previous_whole=True)
    assert (later.phase, later.quarantined(TWO)) == ("IDLE", why)
    # Another bundle is another matter.
    assert asked(later, THREE).phase == "DOWNLOAD"


def test_a_revoked_candidate_is_left_and_one_that_is_revoked_is_not_taken() -> None:
    state = asked(in_trial(runs(ONE), TWO), ONE, candidate=TWO, arm="trial", revoked=frozenset({"2"}))
    assert (state.phase, state.good) == ("IDLE", ONE)
    assert asked(runs(ONE), TWO, revoked=frozenset({"2"})).phase == "IDLE"


def test_arms_of_a_rollout() -> None:
    rollout: dict[str, Any] = {"candidate": TWO, "rollout": "r1"}
    assert asked(runs(ONE), ONE, arm="control", **rollout) == runs(ONE)
    shadow = asked(runs(ONE), ONE, arm="shadow", **rollout)
    assert (shadow.phase, shadow.candidate) == ("DOWNLOAD", TWO)
    shadow = states.tested(states.fetched(shadow, NOW), "shadow", NOW)
    assert (shadow.phase, shadow.serving) == ("SHADOW", ONE)
    trial = asked(shadow, ONE, arm="trial", **rollout)
    assert (trial.phase, trial.serving) == ("TRIAL", TWO)
    assert asked(shadow, ONE, arm="trial", may_swap=False, **rollout).phase == "SHADOW"
    committed = states.observed(trial, NOW)
    assert asked(committed, ONE, arm="trial", **rollout).good == TWO
    # Withdrawn after that, the device goes back to the base, which it holds.
    assert asked(committed, ONE).good == ONE
    # A device that has nothing yet gets the base before it is anybody's shadow.
    assert asked(State(), ONE, arm="shadow", **rollout).candidate == ONE


def test_a_bad_disk_leads_to_the_previous_model_or_to_a_download() -> None:
    state = states.good_corrupt(runs(TWO, previous=ONE), NOW, previous_whole=True)
    assert (state.phase, state.good) == ("IDLE", ONE)
    state = states.good_corrupt(runs(TWO, previous=ONE), NOW, previous_whole=False)
    assert (state.phase, state.good) == ("EMPTY", None)
    assert asked(state, TWO).phase == "DOWNLOAD"


def test_a_candidate_that_goes_in_circles_is_left() -> None:
    state = asked(runs(ONE), ONE, candidate=TWO, arm="shadow")
    state = states.fetched(state, NOW)
    for _ in range(states.MOST_TRANSITIONS):
        if state.candidate is None:
            break
        state = states.tested(state, "shadow" if state.phase == "TRIAL" else "trial", NOW)
    assert state.quarantined(TWO) == "loop"
    assert state.serving == ONE


def test_the_outbox_drops_the_oldest_and_counts_them() -> None:
    state = runs(ONE)
    for number in range(states.MOST_EVENTS + 10):
        state = asked(state, TWO if number % 2 == 0 else ONE)
    assert len(state.outbox) == states.MOST_EVENTS
    assert state.outbox[0]["id"] == state.dropped + 1 == 11
    signed = states.report_signed(states.reports_begin(state, NOW), 7, state.seq - 1)
    assert [each["id"] for each in signed.outbox] == [state.seq]
    assert states.reports_begin(signed, NOW).reported == 7


def test_a_state_of_another_format_is_refused_by_name() -> None:
    with pytest.raises(formats.StateError, match="format 2, this agent reads 1"):
        formats.state_from_json({**formats.state_to_json(State()), "format": 2})
    broken: Any
    for broken in ({}, [], None, {"format": 1, "good": {"id": 3}}, {"format": 1, "quarantine": [1]}):
        with pytest.raises(formats.StateError):
            formats.state_from_json(broken)


class Walk:
    """Whatever happens to a device, in any order that it can happen in."""

    def __init__(self) -> None:
        self.state = State(group="line-1")
        self.now = NOW

    def step(self, event: str, bundle: Bundle, arm: states.Arm) -> None:
        state, now = self.state, self.now
        self.now += timedelta(minutes=7)
        if event == "assigned":
            wanted = Assigned(bundle, candidate=TWO, rollout="r", arm=arm)
            self.state = states.assigned(state, wanted, now, previous_whole=True)
        elif event == "corrupt":
            self.state = states.good_corrupt(state, now, previous_whole=arm == "trial")
        elif state.candidate is not None:
            what = {
                "DOWNLOAD": [
                    states.fetched,
                    lambda s, n: states.fetched(s, n, prepare=True),
                    states.wrong_digest,
                    lambda s, n: states.failed(s, "no_space", n),
                ],
                "PREPARE": [lambda s, n: states.prepare_starts(s, "engine", n), states.prepared],
                "SELFTEST": [states.test_starts, lambda s, n: states.tested(s, arm, n), states.unprepared],
                "SHADOW": [lambda s, n: states.failed(s, "shadow_crash", n)],
                "TRIAL": [states.starts, states.observed, lambda s, n: states.failed(s, "crash", n)],
            }[state.phase]
            self.state = what[ord(event) % len(what)](state, now)  # type: ignore[operator]


@settings(max_examples=150, deadline=None)
@given(
    some.lists(
        some.tuples(
            some.sampled_from(["assigned", "corrupt", "a", "b", "c", "d"]),
            some.sampled_from([ONE, TWO, THREE]),
            some.sampled_from(["trial", "shadow", "control"]),
        ),
        max_size=60,
    )
)
def test_whatever_happens_the_state_is_sound(happened: list[tuple[str, Bundle, states.Arm]]) -> None:
    walk = Walk()
    for event, bundle, arm in happened:
        before = walk.state
        walk.step(event, bundle, arm)
        state = walk.state
        # A device that had a working model has one, unless its disk lost both; no assignment takes the only one.
        if (before.good is not None and event != "corrupt") or (
            before.serving is not None and event == "assigned"
        ):
            assert state.serving is not None
        assert (state.candidate is None) == (state.phase in ("EMPTY", "IDLE"))
        assert (state.phase == "EMPTY") <= (state.good is None)
        assert [each["id"] for each in state.outbox] == list(range(state.dropped + 1, state.seq + 1))
        assert len(state.quarantine) <= states.MOST_QUARANTINED
        assert formats.state_from_json(json.loads(json.dumps(formats.state_to_json(state)))) == state
