"""Clocks that are apart: how far, in which words, and when what is dated in the future happened."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from resources import clocks
from resources.clocks import FirstSeen, ahead, ahead_by_header, in_words

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("apart", [90, -90, 3600, -86400])
def test_how_far_a_clock_is_ahead_is_known_to_the_second(apart: int):
    theirs = NOON + timedelta(seconds=apart)
    assert ahead(theirs, NOON - SECOND, NOON + SECOND) == timedelta(seconds=apart)
    header = format_datetime(theirs, usegmt=True)
    assert abs((ahead_by_header(header, NOON, NOON) or timedelta(0)).total_seconds() - apart) <= 1


def test_what_whole_seconds_and_a_slow_answer_hide_is_no_difference():
    for shift in (-1, 0, 1):
        assert ahead(NOON + shift * SECOND, NOON, NOON) == timedelta(0)
    assert ahead(NOON, NOON - 20 * SECOND, NOON) == timedelta(0)


@pytest.mark.parametrize("header", [None, "", "yesterday", "Mon, 99 Foo 2026 12:00:00 GMT"])
def test_an_answer_without_a_date_tells_nothing(header: str | None):
    assert ahead_by_header(header, NOON, NOON) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(80, "80 s"), (-80, "80 s"), (899, "15 min"), (5400, "90 min"), (84_000, "23 h"), (260_000, "3 days")],
)
def test_a_span_is_said_in_its_largest_unit(seconds: int, said: str):
    assert in_words(timedelta(seconds=seconds)) == said


def test_what_is_dated_in_the_past_happened_then_and_is_not_remembered():
    seen = FirstSeen(NOON, {"run": NOON.isoformat()})
    assert seen.when("run", NOON - SECOND) == NOON - SECOND
    assert seen.seen == {}


def test_what_is_dated_in_the_future_happened_when_it_was_first_seen():
    tomorrow, before = NOON + timedelta(days=1), dict[str, str]()
    for minute in range(3):
        now = NOON + timedelta(minutes=minute)
        look = FirstSeen(now, before)
        assert look.when("commit", tomorrow) == NOON
        before = look.seen
    assert FirstSeen(NOON, before).when("another", tomorrow) == NOON


def test_a_clock_that_was_set_back_makes_nothing_happen_in_the_future():
    earlier = NOON - timedelta(hours=1)
    look = FirstSeen(earlier, {"commit": NOON.isoformat()})
    assert look.when("commit", NOON) == earlier


def test_the_time_is_that_of_this_machine_in_utc():
    before = datetime.now(UTC)
    assert before <= clocks.now() <= datetime.now(UTC)
