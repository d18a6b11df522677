"""Production days taken apart by (model, device group), in a row with other days, and the alarm they raise.

From single days to an alarm: k of n days, hysteresis, a cool-down. Pure; one (model, device group) and signal.
"""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import pandas as pd

from resources.error_family import Invalid
from visionops_assets.config.production_rules import SeveralDays
from visionops_assets.monitoring.drift import ColumnDrift, DayDrift
from visionops_assets.monitoring.performance import DayPerformance

DayOutcome = Literal["PASS", "FAIL", "INSUFFICIENT"]
# Columns of the stored tables, with their Arrow types.
DRIFT_COLUMNS = {
    "model_sha256": "string",
    "device_group": "string",
    "rows": "int64",
    "column": "string",
    "kind": "string",
    "method": "string",
    "distance": "double",
    "effect": "double",
    "by_chance": "double",
    "threshold": "double",
    "drifted": "bool",
    "missing": "double",
    "note": "string",
}
PERFORMANCE_COLUMNS = {
    "model_sha256": "string",
    "device_group": "string",
    "rows": "int64",
    "labelled": "int64",
    "metric": "string",
    "realised": "double",
    "realised_lower": "double",
    "realised_upper": "double",
    "estimated": "double",
    "estimated_lower": "double",
    "estimated_upper": "double",
    "floor": "double",
    "below": "bool",
    "in_words": "string",
}


@dataclass(frozen=True)
class Day:
    """What one day says. `bad` is None where there were too few rows to judge it; `signs` name what was bad."""

    day: date
    rows: int
    bad: bool | None
    signs: tuple[str, ...] = ()


@dataclass(frozen=True)
class AlarmState:
    """Where things stand after a day.

    FAIL: an alarm stands, since `since`. PASS: none does; `bad` of the `counted` newest days count towards one.
    INSUFFICIENT: none does, and this day could not be judged. `act` says that this is the day to act on the alarm:
    it is bad again, and no action lies within the cool-down. `warning`: this day itself is bad.
    """

    day: date
    outcome: DayOutcome
    bad: int
    counted: int
    since: date | None
    act: bool
    warning: bool
    signs: tuple[str, ...]

    def sentence(self) -> str:
        """The state in words."""
        named = f": {', '.join(self.signs)}" if self.signs else ""
        if self.since is not None:
            return f"alarm since {self.since}, {self.bad} of the newest {self.counted} judged days are bad{named}"
        if self.outcome == "INSUFFICIENT":
            return f"{self.day} has too few rows to be judged"
        if self.warning:
            return f"{self.day} is bad, {self.bad} of the newest {self.counted} judged days are{named}"
        return f"quiet, {self.bad} of the newest {self.counted} judged days are bad"


def alarm_states(days: Iterable[Day], rules: SeveralDays) -> list[AlarmState]:
    """The state after each day, in the order of days, whatever order they come in.

    Every state follows from the days up to it alone: an old day judged again gives what it gave. Raises ValueError
    where a day comes twice.
    """
    ordered = sorted(days, key=lambda each: each.day)
    twice = [one.day for one, other in pairwise(ordered) if one.day == other.day]
    if twice:
        raise Invalid(f"{twice[0]} comes twice: give one day of one model and device group once")
    states: list[AlarmState] = []
    since: date | None = None
    acted: date | None = None
    for number, today in enumerate(ordered):
        recent = _recent_days(ordered[: number + 1], rules)
        bad = [each for each in recent[-rules.of :] if each.bad]
        if since is None and today.bad and len(bad) >= rules.alarm:
            since = today.day
        elif since is not None and _alarm_is_over(recent, rules.clear):
            since = None
        rested = acted is None or today.day - acted >= timedelta(rules.cool_down)
        act = since is not None and bool(today.bad) and rested
        acted = today.day if act else acted
        passed: DayOutcome = "PASS" if today.bad is not None else "INSUFFICIENT"
        signs = _most_frequent_sign(bad if since is not None else [today])
        states.append(
            AlarmState(
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


def _recent_days(days: Sequence[Day], rules: SeveralDays) -> list[Day]:
    """The judged days that still count on the last of `days`."""
    oldest = days[-1].day - timedelta(rules.within)
    return [each for each in days if each.bad is not None and each.day >= oldest]


def _alarm_is_over(recent: Sequence[Day], clear: int) -> bool:
    """Whether so many judged days in a row were good. Silence ends no alarm."""
    last = recent[-clear:]
    return len(last) == clear and not any(each.bad for each in last)


def _most_frequent_sign(days: Sequence[Day]) -> tuple[str, ...]:
    """The signs of these days, the most frequent first."""
    every = [sign for each in days for sign in each.signs]
    return tuple(sorted(dict.fromkeys(every), key=lambda sign: -every.count(sign)))


class Where(NamedTuple):
    """What drift and performance are told of."""

    model_sha256: str
    device_group: str

    def name(self) -> str:
        """In words."""
        return f"model {self.model_sha256[:12]} on {self.device_group}"

    def key(self) -> str:
        """As part of a name of metadata."""
        return f"{self.model_sha256[:12]}_{self.plain_group()}"

    def plain_group(self) -> str:
        """The device group as part of a path or of a metric's name, whatever a device calls it."""
        return re.sub(r"[^A-Za-z0-9_-]", "_", self.device_group)


def by_model(rows: pd.DataFrame) -> Iterator[tuple[Where, pd.DataFrame]]:
    """The rows of each model on each device group."""
    for (model, group), part in rows.groupby(list(Where._fields), sort=True):
        yield Where(str(model), str(group)), part.reset_index(drop=True)


def drift_rows(where: Where, found: DayDrift) -> pd.DataFrame:
    """One row a column of one model's day."""
    numbers = {name: "float64" for name, kind in DRIFT_COLUMNS.items() if kind == "double"}
    table = found.table().assign(rows=found.rows, **where._asdict())
    return table[list(DRIFT_COLUMNS)].astype(numbers)


def no_comparison(where: Where, rows: int, why: str) -> pd.DataFrame:
    """The row of a model that has no reference."""
    nothing = ColumnDrift("", "data", "", None, 0.0, None, 0.0, why)
    return drift_rows(where, DayDrift(rows, (nothing,)))


def performance_row(where: Where, found: DayPerformance, floor: float) -> dict[str, object]:
    """One model's day as a row of the table of performances."""
    row: dict[str, object] = {
        **where._asdict(),
        "rows": found.rows,
        "labelled": found.labelled,
        "metric": None,
    }
    for name, each in (("realised", found.realised), ("estimated", found.estimated)):
        row[name] = each.value if each else None
        row[f"{name}_lower"] = each.lower if each else None
        row[f"{name}_upper"] = each.upper if each else None
    if found.known is not None:
        row["metric"] = found.known.metric
    return {**row, "floor": floor, "below": found.below(floor), "in_words": found.sentence()}


def drift_days(tables: Mapping[date, pd.DataFrame]) -> dict[Where, list[Day]]:
    """What stored drift tables say, by model and device group, a day each."""
    found: dict[Where, list[Day]] = {}
    for day, table in tables.items():
        # Without pandas' groups: a month of small tables is read for each day that is judged.
        rows: dict[Where, list[dict[Hashable, Any]]] = {}
        for row in table.to_dict("records"):
            rows.setdefault(Where(str(row["model_sha256"]), str(row["device_group"])), []).append(row)
        for where, columns in sorted(rows.items()):
            compared = any(pd.notna(row["distance"]) for row in columns)
            drifted = [row for row in columns if row["drifted"]]
            drifted.sort(key=lambda row: -row["distance"] / row["threshold"])
            signs = tuple(str(row["column"]) for row in drifted)
            bad = bool(drifted) if compared else None
            found.setdefault(where, []).append(Day(day, int(columns[0]["rows"]), bad, signs))
    return found


def performance_days(tables: Mapping[date, pd.DataFrame]) -> dict[Where, list[Day]]:
    """What stored tables of performances say, by model and device group, a day each."""
    found: dict[Where, list[Day]] = {}
    for day, table in tables.items():
        for row in table.to_dict("records"):
            where = Where(str(row["model_sha256"]), str(row["device_group"]))
            known = row["below"] is not None and not pd.isna(row["below"])
            kind = "realised" if pd.notna(row["realised"]) else "estimated"
            signs = (
                (f"{kind} {row['metric']} {row[kind]:.3f} below {row['floor']:.3f}",)
                if known and row["below"]
                else ()
            )
            bad = bool(row["below"]) if known else None
            found.setdefault(where, []).append(Day(day, int(row["rows"]), bad, signs))
    return found


def performances_by_day(tables: Mapping[date, pd.DataFrame]) -> pd.DataFrame:
    """The rows of several days, with their `day`, oldest first."""
    rows = [{**row, "day": day} for day, table in tables.items() for row in table.to_dict("records")]
    return pd.DataFrame(rows, columns=[*PERFORMANCE_COLUMNS, "day"])


def performance_metrics(table: pd.DataFrame) -> dict[Where, dict[str, float]]:
    """The numbers that are known of each model's day, by name."""
    return {
        Where(str(row["model_sha256"]), str(row["device_group"])): {
            name: float(row[name]) for name in ("realised", "estimated") if pd.notna(row[name])
        }
        for row in table.to_dict("records")
    }
