"""The demo's days in production, one by one: what the cameras see is answered, logged, collected and judged."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionops.demo_cameras import LINES, Cameras, chapter

if TYPE_CHECKING:
    import dagster as dg
    import pandas as pd

    from visionops_assets.monitoring.stored_days import StoredDays
    from visionops_assets.project import Project

# A line works from eight o'clock, and its images are answered in so many batches, half an hour apart.
_STARTS, _BATCHES, _APART = clock(8, tzinfo=UTC), 8, timedelta(minutes=30)
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
    """What happened on one production day, as `demo-days.json` lists it. `accuracy` is estimated, by line."""

    day: str
    story: str
    rows: int
    noticed: list[Noticed]
    accuracy: dict[str, float]


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


def live(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    project: "Project",
    days: int,
    path: Path,
    say: Callable[[str], None],
) -> list[DayAccount]:
    """Live through a month of production, day by day, and write its account to `path`.

    What was logged and judged by an earlier demo stays. Raises what predicting, lakeFS and MLflow raise.
    """
    from visionops import services
    from visionops.tick import tick
    from visionops_assets.monitoring.stored_days import StoredDays

    today = datetime.now(UTC).date()
    month = begun_month(path, days, today)
    oldest = max(today - project.production.clock_behind, project.production.since)
    _write(path, month, [])
    lines = Lines(project)
    tables = StoredDays(services.artifacts(), project.project, "drift_report")
    performances = StoredDays(services.artifacts(), project.project, "performance")
    accounts: list[DayAccount] = []
    story = ""
    for number, day in month.dates():
        begun = time.perf_counter()
        if day >= oldest:
            lines.live(number, month, day)
        tick(defs, instance, [project])
        account = account_of(project, number, month, day, tables, performances)
        accounts.append(account)
        _write(path, month, accounts)
        if account.story != story:
            story = account.story
            say(f"\n{day}: {story}")
        noticed = "; ".join(each.sentence() for each in account.noticed) or "quiet"
        say(f"  {day}: {account.rows} rows, {noticed} ({time.perf_counter() - begun:.1f} s)")
    return accounts


class Lines:
    """The cameras of all lines, the model in production on each, and the log that each writes."""

    def __init__(self, project: "Project") -> None:
        from visionops import services
        from visionops.prediction_log import PredictionLog
        from visionops_assets.monitoring.prediction import open_version, running_version

        self._project, self._cameras = project, Cameras()
        registry = services.registry()
        model = open_version(registry, running_version(registry, project.project), threads=1)
        self._model = model
        self._logs = {
            line: PredictionLog(services.spool(), project, f"camera-{line}", line) for line in LINES
        }

    def live(self, number: int, month: Month, day: date) -> None:
        """What each line sees on a day goes through its model into its log, and into the spool."""
        from visionops_assets.monitoring.prediction import Picture, answer, pictures

        logged = devices_of(self._project, day)
        for line, log in self._logs.items():
            if log.device in logged:
                continue
            images = self._cameras.images(number, month.days, line)
            size = -(-len(images) // _BATCHES)
            for batch in range(_BATCHES):
                named = [("", image) for image in images[batch * size : (batch + 1) * size]]
                seen = [each for each in pictures(named, self._model.shipped) if isinstance(each, Picture)]
                log.add(seen, answer(self._model, seen), datetime.combine(day, _STARTS) + batch * _APART)
            log.flush()


def devices_of(project: "Project", day: date) -> set[str]:
    """The devices whose rows of a day are in the repository of production."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from resources.lakefs import MAIN
    from resources.lakefs_errors import LakeFSNotFound
    from visionops import services
    from visionops_assets.monitoring.inference_log import day_folder, production_repository

    lakefs, repository = services.lakefs(), production_repository(project.repository)
    try:
        paths = [
            entry.path
            for entry in lakefs.objects(repository, MAIN, day_folder(project.project, day.isoformat()))
        ]
    except LakeFSNotFound:
        return set()
    files = lakefs.read_many(repository, MAIN, paths)
    return {
        device
        for _, content in files
        for device in pq.read_table(pa.BufferReader(content), columns=["device"])["device"].to_pylist()
    }


def account_of(
    project: "Project",
    number: int,
    month: Month,
    day: date,
    drift: "StoredDays",
    performances: "StoredDays",
) -> DayAccount:
    """What the assets of a day say, put together."""
    from visionops_assets.monitoring.judgement import judge_days
    from visionops_assets.monitoring.model_days import by_model, drift_days

    table, known = drift.at(day), performances.at(day)
    story = chapter(number, month.days).story
    if table is None or known is None or not len(table):
        return DayAccount(day.isoformat(), story, 0, [], {})
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
    return DayAccount(day.isoformat(), story, rows, noticed, accuracy)


def _by_kind(columns: "pd.DataFrame") -> dict[str, list[str]]:
    drifted = columns[columns["drifted"].astype(bool)]
    far = (drifted["distance"] / drifted["threshold"]).sort_values(ascending=False)
    ordered = drifted.loc[far.index]
    return {str(kind): part["column"].tolist() for kind, part in ordered.groupby("kind", sort=True)}


def _write(path: Path, month: Month, accounts: list[DayAccount]) -> None:
    told: dict[str, Any] = {
        "format": _FORMAT,
        "first": month.first.isoformat(),
        "of": month.days,
        "days": [asdict(account) for account in accounts],
    }
    path.write_text(json.dumps(told, indent=1))
