"""The demo's days in production, one by one: what the cameras see is answered, logged, collected and judged; and
the account of them, `demo-days.json`: what was noticed on which day.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.error_family import Unavailable
from visionops.demo.digits import LINES, Cameras, chapter

if TYPE_CHECKING:
    import dagster as dg
    import pandas as pd

    from resources.models.registry import ModelRegistry
    from visionops_assets.config.project import Project
    from visionops_assets.monitoring.prediction import RunningModel
    from visionops_assets.monitoring.production_day import StoredDays


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
    from visionops_assets.monitoring.model_days import alarm_states, by_model, drift_days
    from visionops_assets.monitoring.response.actions import read_actions

    table, known = drift.at(day), performances.at(day)
    story = chapter(number, month.days).story
    if table is None or known is None or not len(table):
        return DayAccount(day.isoformat(), story, 0, [], {}, [])
    days = drift_days(drift.until(day))
    noticed, rows = [], 0
    for where, columns in by_model(table):
        rows += int(columns["rows"].iloc[0])
        state = alarm_states(days[where], project.drift.days)[-1]
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
    from visionops_assets.shells.run_outcomes import run_outcome

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


# A line works from eight o'clock, and its images are answered in so many batches, half an hour apart.
_STARTS, _BATCHES, _APART = clock(8, tzinfo=UTC), 8, timedelta(minutes=30)


def live_days(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    project: "Project",
    days: int,
    path: Path,
    say: Callable[[str], None],
) -> list[DayAccount]:
    """Live through a month of production, day by day, and write its account to `path`.

    What was logged and judged by an earlier demo stays. Raises `Unavailable` for a run that ended with an error, and
    what predicting, lakeFS and MLflow raise.
    """
    from visionops import services
    from visionops_assets.monitoring.production_day import StoredDays

    today = datetime.now(UTC).date()
    month = begun_month(path, days, today)
    oldest = max(today - project.production.clock_behind, project.production.since)
    say(f"\n{month.days} days in production, {len(LINES)} lines with a camera each")
    write_account(path, month, [])
    lines, registry = Lines(project), services.registry()
    tables = StoredDays(services.artifacts(), project.project, "drift_report")
    performances = StoredDays(services.artifacts(), project.project, "performance")
    accounts: list[DayAccount] = []
    story = ""
    # What an earlier demo left in the spool is collected before it is looked at what is there.
    _tick_day(defs, instance, project)
    for number, day in month.dates():
        begun = time.perf_counter()
        if day >= oldest:
            lines.live(number, month, day)
        _tick_day(defs, instance, project)
        account = account_of(project, number, month, day, tables, performances, registry)
        if not account.rows:
            problem = why_not_looked_at(instance, project.project, day)
            account = replace(account, problem=problem)
        accounts.append(account)
        write_account(path, month, accounts)
        if account.story != story:
            story = account.story
            say(f"\n{day}: {story}")
        say(f"  {day}: {account.sentence()} ({time.perf_counter() - begun:.1f} s)")
        for done in account.done:
            say(f"    {done}")
    return accounts


def _tick_day(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project") -> None:
    from visionops.tick import tick_production
    from visionops_assets.common import run_tags

    for found in tick_production(defs, instance, project):
        if found.outcome == run_tags.ERROR:
            raise Unavailable(f"{found.partition}: {found.reason}; `visionops demo` goes on from there")


class Lines:
    """The cameras of all lines, and the log that each writes."""

    def __init__(self, project: "Project") -> None:
        from visionops import services
        from visionops.serving.prediction_log import PredictionLog

        self._project, self._cameras = project, Cameras()
        self._registry = services.registry()
        self._opened: dict[int, RunningModel] = {}
        self._logs = {
            line: PredictionLog(services.spool(), project, f"camera-{line}", line) for line in LINES
        }

    def live(self, number: int, month: Month, day: date) -> None:
        """What each line sees on a day is answered by what runs there now, and goes through its log to the spool."""
        from visionops_assets.monitoring.prediction import Picture, answer, pictures

        logged = devices_of(self._project, day)
        for line, log in self._logs.items():
            if log.device in logged:
                continue
            model, images = self._model(line), self._cameras.images(number, month.days, line)
            size = -(-len(images) // _BATCHES)
            for batch in range(_BATCHES):
                named = [("", image) for image in images[batch * size : (batch + 1) * size]]
                seen = [each for each in pictures(named, model.shipped) if isinstance(each, Picture)]
                log.add(seen, answer(model, seen), datetime.combine(day, _STARTS) + batch * _APART)
            log.flush()

    def _model(self, line: str) -> "RunningModel":
        from visionops_assets.monitoring.prediction import open_version, running_version

        version = running_version(self._registry, self._project.project, line)
        if version.version not in self._opened:
            self._opened[version.version] = open_version(self._registry, version, threads=1)
        return self._opened[version.version]


def devices_of(project: "Project", day: date) -> set[str]:
    """The devices whose rows of a day are in the repository of production."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from resources.lakefs.client import MAIN
    from resources.lakefs.replies import LakeFSNotFound
    from visionops import services
    from visionops_assets.monitoring.inference_log import day_folder, production_repository

    lakefs, repository = services.lakefs(), production_repository(project.repository)
    try:
        paths = [
            entry.path
            for entry in lakefs.objects(repository, f"{MAIN}@", day_folder(project.project, day.isoformat()))
        ]
    except LakeFSNotFound:
        return set()
    files = lakefs.read_many(repository, f"{MAIN}@", paths)
    return {
        device
        for _, content in files
        for device in pq.read_table(pa.BufferReader(content), columns=["device"])["device"].to_pylist()
    }
