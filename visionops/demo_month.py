"""The demo's days in production, one by one: what the cameras see is answered, logged, collected and judged."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import TYPE_CHECKING

from visionops.demo_account import (
    DayAccount,
    Month,
    account_of,
    begun_month,
    why_not_looked_at,
    write_account,
)
from visionops.demo_cameras import LINES, Cameras

if TYPE_CHECKING:
    import dagster as dg

    from visionops_assets.monitoring.prediction import RunningModel
    from visionops_assets.project import Project

# A line works from eight o'clock, and its images are answered in so many batches, half an hour apart.
_STARTS, _BATCHES, _APART = clock(8, tzinfo=UTC), 8, timedelta(minutes=30)


def live(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    project: "Project",
    days: int,
    path: Path,
    say: Callable[[str], None],
) -> list[DayAccount]:
    """Live through a month of production, day by day, and write its account to `path`.

    What was logged and judged by an earlier demo stays. Raises RuntimeError for a run that ended with an error, and
    what predicting, lakeFS and MLflow raise.
    """
    from visionops import services
    from visionops_assets.monitoring.stored_days import StoredDays

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
    _tick(defs, instance, project)
    for number, day in month.dates():
        begun = time.perf_counter()
        if day >= oldest:
            lines.live(number, month, day)
        _tick(defs, instance, project)
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


def _tick(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project") -> None:
    from visionops.tick import tick_production
    from visionops_assets.common import run_tags

    for found in tick_production(defs, instance, project):
        if found.outcome == run_tags.ERROR:
            raise RuntimeError(f"{found.partition}: {found.reason}; `visionops demo` goes on from there")


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
    from resources.lakefs_errors import LakeFSNotFound
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
