"""From single days to an alarm: k of n days, hysteresis, a cool-down. Pure; one (model, device group) and signal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal

from visionops_assets.monitoring.drift_rules import SeveralDays

Outcome = Literal["PASS", "FAIL", "INSUFFICIENT"]


@dataclass(frozen=True)
class Day:
    """What one day says. `bad` is None where there were too few rows to judge it; `signs` name what was bad."""

    day: date
    rows: int
    bad: bool | None
    signs: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Where things stand after a day.

    FAIL: an alarm stands, since `since`. PASS: none does; `bad` of the `judged` newest days count towards one.
    INSUFFICIENT: none does, and this day could not be judged. `act` says that this is the day to act on the alarm:
    it is bad again, and no action lies within the cool-down. `warning`: this day itself is bad.
    """

    day: date
    outcome: Outcome
    bad: int
    judged: int
    since: date | None
    act: bool
    warning: bool
    signs: tuple[str, ...]

    def sentence(self) -> str:
        """The state in words."""
        named = f": {', '.join(self.signs)}" if self.signs else ""
        if self.since is not None:
            return (
                f"alarm since {self.since}, {self.bad} of the newest {self.judged} judged days are bad{named}"
            )
        if self.outcome == "INSUFFICIENT":
            return f"{self.day} has too few rows to be judged"
        if self.warning:
            return f"{self.day} is bad, {self.bad} of the newest {self.judged} judged days are{named}"
        return f"quiet, {self.bad} of the newest {self.judged} judged days are bad"


def judge_days(days: Iterable[Day], rules: SeveralDays) -> list[State]:
    """The state after each day, in the order of days, whatever order they come in.

    Every state follows from the days up to it alone: an old day judged again gives what it gave. Raises ValueError
    where a day comes twice.
    """
    ordered = sorted(days, key=lambda each: each.day)
    twice = [one.day for one, other in pairwise(ordered) if one.day == other.day]
    if twice:
        raise ValueError(f"{twice[0]} comes twice: give one day of one model and device group once")
    states: list[State] = []
    since: date | None = None
    acted: date | None = None
    for number, today in enumerate(ordered):
        recent = _recent(ordered[: number + 1], rules)
        bad = [each for each in recent[-rules.of :] if each.bad]
        if since is None and today.bad and len(bad) >= rules.alarm:
            since = today.day
        elif since is not None and _is_over(recent, rules.clear):
            since = None
        rested = acted is None or today.day - acted >= timedelta(rules.cool_down)
        act = since is not None and bool(today.bad) and rested
        acted = today.day if act else acted
        passed: Outcome = "PASS" if today.bad is not None else "INSUFFICIENT"
        signs = _most_frequent(bad if since is not None else [today])
        states.append(
            State(
                today.day,
                "FAIL" if since is not None else passed,
                len(bad),
                len(recent[-rules.of :]),
                since,
                act,
                bool(today.bad),
                signs,
            )
        )
    return states


def _recent(days: Sequence[Day], rules: SeveralDays) -> list[Day]:
    """The judged days that still count on the last of `days`."""
    oldest = days[-1].day - timedelta(rules.within)
    return [each for each in days if each.bad is not None and each.day >= oldest]


def _is_over(recent: Sequence[Day], clear: int) -> bool:
    """Whether so many judged days in a row were good. Silence ends no alarm."""
    last = recent[-clear:]
    return len(last) == clear and not any(each.bad for each in last)


def _most_frequent(days: Sequence[Day]) -> tuple[str, ...]:
    """The signs of these days, the most frequent first."""
    every = [sign for each in days for sign in each.signs]
    return tuple(sorted(dict.fromkeys(every), key=lambda sign: -every.count(sign)))
