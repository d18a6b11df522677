"""Days become an alarm only when several agree, and an alarm does not flap."""

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest

from visionops_assets.config.production_rules import SeveralDays
from visionops_assets.monitoring.model_days import AlarmState, Day, alarm_states

RULES = SeveralDays(alarm=2, of=3, clear=3, within=14, cool_down=7)
START = date(2025, 3, 1)


def days(pattern: str) -> list[Day]:
    """`.` a good day, `x` a bad one, `?` one with too few rows, a space a day without any."""
    bad = {".": False, "x": True, "?": None}
    return [
        Day(START + timedelta(number), 0 if sign == "?" else 200, bad[sign], ("sharpness",) * (sign == "x"))
        for number, sign in enumerate(pattern)
        if sign != " "
    ]


def outcomes(pattern: str, rules: SeveralDays = RULES) -> str:
    letter = {"PASS": ".", "FAIL": "F", "INSUFFICIENT": "?"}
    return "".join(letter[state.outcome] for state in alarm_states(days(pattern), rules))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (".....", "....."),
        ("..x...", "......"),
        ("..xx", "...F"),
        ("..x.x", "....F"),
        ("x..x..x", "......."),
        ("xx...", ".FFF."),
        ("xx..x...", ".FFFFFF."),
        ("x?x", ".?F"),
        ("xx??", ".FFF"),
        ("??", "??"),
        ("x                x", ".."),
    ],
    ids=[
        "quiet",
        "one bad day is no alarm",
        "two are",
        "two of three are",
        "bad days apart are not",
        "three good days end it",
        "a bad day among them starts the count again",
        "a day without rows neither counts nor interrupts",
        "silence ends no alarm",
        "nothing to judge",
        "old bad days no longer count",
    ],
)
def test_the_state_follows_the_days(pattern: str, expected: str):
    assert outcomes(pattern) == expected


def test_an_alarm_that_flickers_acts_once_in_a_cool_down():
    states = alarm_states(days("xx...xx...xx...xx..."), RULES)
    acted = [state.day for state in states if state.act]
    assert acted == [START + timedelta(1), START + timedelta(11)]
    assert all(later - earlier >= timedelta(7) for earlier, later in pairwise(acted))


def test_a_standing_alarm_acts_again_only_after_the_cool_down():
    acted = [number for number, state in enumerate(alarm_states(days("x" * 17), RULES)) if state.act]
    assert acted == [1, 8, 15]


def test_any_day_judged_again_gives_what_it_gave():
    random = np.random.default_rng(0)
    every = days("".join(random.choice(list(".x? "), 60)))
    states = alarm_states(every, RULES)
    assert alarm_states(reversed(every), RULES) == states
    for number in range(1, len(every)):
        assert alarm_states(every[:number], RULES) == states[:number]


def test_the_sentence_names_the_day_and_what_was_bad():
    states: list[AlarmState] = alarm_states(days(".xx?"), RULES)
    assert states[0].sentence() == "quiet, 0 of the newest 1 judged days are bad"
    assert states[1].sentence() == "2025-03-02 is bad, 1 of the newest 2 judged days are: sharpness"
    assert states[2].sentence() == "alarm since 2025-03-03, 2 of the newest 3 judged days are bad: sharpness"
    assert states[3].outcome == "FAIL"
    assert not states[3].warning


def test_a_day_given_twice_is_an_error_and_no_day_is_no_state():
    with pytest.raises(ValueError, match="2025-03-01 comes twice"):
        alarm_states(days(".") * 2, RULES)
    assert alarm_states([], RULES) == []


def test_rules_that_can_never_alarm_are_refused():
    with pytest.raises(ValueError, match="an alarm by 4 of 3 days can never stand"):
        SeveralDays(alarm=4, of=3)
