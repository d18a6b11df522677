"""The account of the demo's days in production, `demo-days.json`: what was noticed on which day."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionops.demo_cameras import chapter

if TYPE_CHECKING:
    import dagster as dg
    import pandas as pd

    from resources.models.registry import ModelRegistry
    from visionops_assets.monitoring.stored_days import StoredDays
    from visionops_assets.project import Project

_FORMAT = 1


@dataclass(frozen=True)
class Noticed:
    """A line whose day departs from the holdout, or whose alarm stands. `columns` drifted on this day, the farthest
    first, by kind: `data` (the images), `prediction` (the answers), `embedding`."""

    device_group: str
    alarm: bool
    columns: dict[str, list[str]]
    says: str

    def sentence(self) -> str:
        """In words."""
        named = {"data": "images", "prediction": "answers", "embedding": "embedding"}
        told = [
            f"{named[kind]} ({', '.join(columns)})" if kind != "embedding" else named[kind]
            for kind, columns in self.columns.items()
        ]
        return (
            f"{self.device_group}: {'ALARM' if self.alarm else 'warning'}, {', '.join(told) or 'quiet today'}"
        )


@dataclass(frozen=True)
class DayAccount:
    """What happened on one production day, as `demo-days.json` lists it. `accuracy` is estimated, by line; `done` says
    what was done about it; `problem` why nobody looked at it, where nobody did."""

    day: str
    story: str
    rows: int
    noticed: list[Noticed]
    accuracy: dict[str, float]
    done: list[str]
    problem: str = ""

    def sentence(self) -> str:
        """The day in words; one that nobody looked at is not a quiet one."""
        if self.problem:
            return f"NOT LOOKED AT: {self.problem}"
        return f"{self.rows} rows, {'; '.join(each.sentence() for each in self.noticed) or 'quiet'}"


@dataclass(frozen=True)
class Month:
    """The days of the story: `days` of them, from `first` on."""

    first: date
    days: int

    def dates(self) -> Iterator[tuple[int, date]]:
        """Each day with its number, from 0."""
        return ((number, self.first + timedelta(days=number)) for number in range(self.days))


def begun_month(path: Path, days: int, today: date) -> Month:
    """The month that an earlier demo began, as its account says, else one that ends yesterday."""
    if path.exists():
        told = json.loads(path.read_text())
        return Month(date.fromisoformat(told["first"]), told["of"])
    return Month(today - timedelta(days=days), days)


def account_of(
    project: "Project",
    number: int,
    month: Month,
    day: date,
    drift: "StoredDays",
    performances: "StoredDays",
    registry: "ModelRegistry",
) -> DayAccount:
    """What the assets of a day say, put together."""
    from visionops_assets.monitoring.acting.actions import read_actions
    from visionops_assets.monitoring.judgement import judge_days
    from visionops_assets.monitoring.model_days import by_model, drift_days

    table, known = drift.at(day), performances.at(day)
    story = chapter(number, month.days).story
    if table is None or known is None or not len(table):
        return DayAccount(day.isoformat(), story, 0, [], {}, [])
    days = drift_days(drift.until(day))
    noticed, rows = [], 0
    for where, columns in by_model(table):
        rows += int(columns["rows"].iloc[0])
        state = judge_days(days[where], project.drift.days)[-1]
        if state.warning or state.outcome == "FAIL":
            told = Noticed(where.device_group, state.outcome == "FAIL", _by_kind(columns), state.sentence())
            noticed.append(told)
    estimated = known[known["estimated"].notna()]
    accuracy = dict(zip(estimated["device_group"], estimated["estimated"].round(4), strict=True))
    actions = read_actions(registry.models.get(project.project).tags).entries
    done = [f"{action.title()}: {action.done}" for action in actions if action.day == day]
    return DayAccount(day.isoformat(), story, rows, noticed, accuracy, done)


def why_not_looked_at(instance: "dg.DagsterInstance", project: str, day: date) -> str:
    """What became of the run of a day of which there is no report; "" where there was none, or it went well."""
    import dagster as dg

    from visionops_assets.common import run_tags
    from visionops_assets.run_reason import run_outcome

    wanted = {run_tags.PROJECT: project, run_tags.DAY: day.isoformat()}
    for run in instance.get_runs(dg.RunsFilter(tags=wanted), limit=1):
        again = f"`visionops tick {project} --again` has it looked at"
        if run.is_success:
            return ""
        if not run.is_finished:
            return f"run {run.run_id} is at work on it"
        if run_outcome(run) == run_tags.INTERRUPTED or run.status == dg.DagsterRunStatus.CANCELED:
            return f"run {run.run_id} was stopped; {again}"
        return f"run {run.run_id} was killed or ended with an error; {again}"
    return ""


def _by_kind(columns: "pd.DataFrame") -> dict[str, list[str]]:
    drifted = columns[columns["drifted"].astype(bool)]
    far = (drifted["distance"] / drifted["threshold"]).sort_values(ascending=False)
    ordered = drifted.loc[far.index]
    return {str(kind): part["column"].tolist() for kind, part in ordered.groupby("kind", sort=True)}


def write_account(path: Path, month: Month, accounts: list[DayAccount]) -> None:
    """Write the account so far; `begun_month` reads of it when the month began."""
    told: dict[str, Any] = {
        "format": _FORMAT,
        "first": month.first.isoformat(),
        "of": month.days,
        "days": [asdict(account) for account in accounts],
    }
    # Whole or not at all: the next demo reads it.
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(told, indent=1))
    part.replace(path)
