"""When the newest dataset version gets a run."""

from datetime import timedelta

import pytest

from sensors.readiness import EarlierRun, Go, Wait, readiness
from visionops_assets.project import Trigger

HOUR = timedelta(hours=1)


def decide(trigger=None, runs=(), stored=None, age=HOUR, since=None, new_samples=10):
    return readiness(
        "shapes",
        "20260101T000000-0123456789ab",
        trigger or Trigger(),
        stored_verdict=stored,
        runs=list(runs),
        age=age,
        since_last_request=since,
        new_samples=new_samples,
    )


def errored(outcome="error"):
    return EarlierRun("r", "errored", outcome)


def test_a_new_version_gets_its_first_attempt():
    assert decide() == Go(1, 1)


@pytest.mark.parametrize("outcome", ["refused", "insufficient", "promoted", "awaiting_approval"])
def test_a_settled_version_gets_no_run_even_when_its_run_is_red(outcome):
    assert isinstance(decide(runs=[errored(outcome)]), Wait)


@pytest.mark.parametrize("verdict", ["FAIL", "INSUFFICIENT"])
def test_a_stored_refusal_is_final_even_when_the_runs_are_forgotten(verdict):
    assert isinstance(decide(stored=verdict), Wait)


def test_a_pass_that_was_never_promoted_is_requested_again():
    assert decide(stored="PASS", runs=[errored()]) == Go(2, 2)


def test_an_errored_run_is_requested_again_up_to_the_stated_number():
    trigger = Trigger(attempts=3)
    assert decide(trigger, [errored()]) == Go(2, 2)
    assert decide(trigger, [errored(), errored()]) == Go(3, 3)
    gave_up = decide(trigger, [errored(), errored(), errored()])
    assert isinstance(gave_up, Wait)
    assert "3 times" in gave_up.reason


def test_a_run_in_progress_is_waited_for():
    assert isinstance(decide(runs=[EarlierRun("r", "in progress")]), Wait)


def test_a_run_that_a_person_cancelled_is_not_started_again():
    assert isinstance(decide(runs=[EarlierRun("r", "cancelled")]), Wait)


def test_interrupted_runs_count_as_no_attempts_and_are_requested_again_at_once():
    interrupted = EarlierRun("r", "cancelled", "interrupted", counts=False)
    assert decide(runs=[interrupted] * 9) == Go(1, 10)
    assert decide(Trigger(attempts=2), [errored(), interrupted, interrupted]) == Go(2, 4)
    assert decide(Trigger(quiet_for=2 * HOUR, min_new_samples=50), [interrupted]) == Go(1, 2)


def test_what_a_person_had_tried_again_counts_no_more():
    before = [EarlierRun("r", "errored", "error", counts=False), EarlierRun("r", "cancelled", counts=False)]
    assert decide(Trigger(attempts=1), before) == Go(1, 3)


def test_a_version_that_was_given_up_names_the_command_that_tries_it_again():
    for runs in ([errored()] * 3, [EarlierRun("r", "cancelled")]):
        waits = decide(runs=runs)
        assert isinstance(waits, Wait)
        assert "`visionops tick shapes --again`" in waits.reason


def test_the_trigger_waits_for_quiet_for_time_and_for_samples():
    assert isinstance(decide(Trigger(quiet_for=2 * HOUR)), Wait)
    assert isinstance(decide(Trigger(at_most_every=2 * HOUR), since=HOUR), Wait)
    assert isinstance(decide(Trigger(min_new_samples=50)), Wait)
    assert decide(Trigger(quiet_for=HOUR, at_most_every=HOUR, min_new_samples=10), since=HOUR) == Go(1, 1)


def test_an_error_is_repeated_without_waiting_for_the_trigger():
    assert decide(Trigger(min_new_samples=50), [errored()]) == Go(2, 2)
