"""When the newest dataset version gets a run."""

from datetime import timedelta

import pytest

from sensors.newest_version import Standing
from sensors.readiness import EarlierRun, Go, Newest, Wait, readiness
from visionops_assets.config.project import Trigger

HOUR = timedelta(hours=1)


def decide(trigger=None, runs=(), stored=None, age=HOUR, since=None, new_samples=10, again=False):
    return readiness(
        "shapes",
        trigger or Trigger(),
        Newest("20260101T000000-0123456789ab", stored, list(runs), age, since, new_samples, again),
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


def test_what_is_asked_again_waits_for_no_new_data_and_fails_no_oftener_than_it_may():
    trigger = Trigger(min_new_samples=500, at_most_every=timedelta(days=1), attempts=2)
    quiet = {"age": timedelta(0), "since": timedelta(0), "new_samples": 0}
    assert isinstance(decide(trigger, stored="FAIL", **quiet), Wait)
    assert decide(trigger, stored="FAIL", again=True, **quiet) == Go(1, 1)
    gave_up = decide(trigger, [errored(), errored()], stored="FAIL", again=True, **quiet)
    assert isinstance(gave_up, Wait) and gave_up.wrong


@pytest.mark.parametrize(
    ("standing", "run", "counts"),
    [
        (Standing(None, rules="a"), EarlierRun("r", "errored", "refused"), True),
        (Standing(None, rules="a"), EarlierRun("r", "errored", "refused", rules="b"), False),
        (Standing(None, rules="a"), EarlierRun("r", "succeeded", "promoted", rules="b"), True),
        (Standing(None, rules="a", under="b"), EarlierRun("r", "errored", "refused"), False),
        (Standing(None, rules="a", under="a"), EarlierRun("r", "errored", "refused", rules="a"), True),
        (
            Standing(None, rules="a", asked_anew=True),
            EarlierRun("r", "succeeded", "promoted", rules="a"),
            False,
        ),
        (Standing(None, rules="a", asked_anew=True), EarlierRun("r", "errored", "error", rules="a"), True),
        (Standing(None, rules="a", under="b", final=True), EarlierRun("r", "errored", "refused"), True),
        (Standing(None), EarlierRun("r", "errored", "refused", rules="b"), True),
        (Standing(None, rules="a"), EarlierRun("r", "in progress", rules="b"), True),
    ],
)
def test_an_earlier_run_counts_where_it_speaks_of_what_is_asked_now(standing, run, counts):
    assert standing.counts(run) is counts
