"""What stored records say: Dagster's of runs by outcome, ticks of sensors and daemons, and the tables of production
days of each model on each device group.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSError
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops.serving import metric_families
from visionops.serving.metric_families import Sample, model_label
from visionops_assets.common import run_tags
from visionops_assets.common.keys import asset_key
from visionops_assets.common.tables import read_table
from visionops_assets.config.project import Project
from visionops_assets.monitoring.model_days import (
    Day,
    Where,
    alarm_states,
    by_model,
    drift_days,
    performance_days,
)
from visionops_assets.monitoring.production_day import LOOK_BACK_DAYS, stored_dates
from visionops_assets.shells.run_outcomes import FAILURE_REASON, TOLD_TO_END
from visionops_assets.shells.unstable_dagster import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickStatus,
)

NOW = {
    "queued": [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING],
    "in_progress": [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING],
}
FAILED = [dg.DagsterRunStatus.FAILURE]
ANY: list[dg.DagsterRunStatus] = []
_EXPLAINED = tuple(outcome for outcome in run_tags.OUTCOMES if outcome != run_tags.ERROR)
# A day is logged when its whole run succeeded; what says so of a failed run was written before that was so.
_EXPLAINED_FAILURES = tuple(outcome for outcome in _EXPLAINED if outcome != run_tags.LOGGED)
# So often failed runs are counted until none fails meanwhile.
LOOKS = 5
UNSEEN_AT_MOST = 100
# What Dagster takes where a sensor names no interval.
DEFAULT_SECONDS = 30
# By asset and day: the list that names a table's rows.
Listings = dict[str, dict[date, dict[str, Any]]]


def run_samples(instance: dg.DagsterInstance, projects: Sequence[str]) -> Iterator[Sample]:
    """Runs of each project by outcome, errors of runs without a project, and the runs there are now.

    A failed run that nobody explained is an error, whether or not a sensor has said so by now.
    """
    for project in projects:
        for outcome in _EXPLAINED:
            yield metric_families.RUNS(_count(instance, ANY, project, outcome), project, outcome)
        for status, statuses in NOW.items():
            yield metric_families.RUNS_NOW(_count(instance, statuses, project), project, status)
    for _ in range(LOOKS):
        failed = _count(instance, FAILED)
        errors = {project: _errors(instance, project) for project in projects}
        of_projects = sum(_count(instance, FAILED, project) for project in projects)
        # Differences of numbers that were read while a run failed would be a counter that jumps and comes back.
        if _count(instance, FAILED) == failed:
            yield from (
                metric_families.RUNS(found, project, run_tags.ERROR) for project, found in errors.items()
            )
            yield metric_families.RUNS(failed - of_projects, "", run_tags.ERROR)
            return


def _errors(instance: dg.DagsterInstance, project: str) -> int:
    explained = sum(_count(instance, FAILED, project, outcome) for outcome in _EXPLAINED_FAILURES)
    told = {FAILURE_REASON: TOLD_TO_END}
    # As a sensor will say of these at its next look.
    if interrupted := _count(instance, FAILED, project, None, told):
        said = sum(_count(instance, FAILED, project, outcome, told) for outcome in _EXPLAINED_FAILURES)
        explained += interrupted - said
    return _count(instance, FAILED, project) - explained


def _count(
    instance: dg.DagsterInstance,
    statuses: Sequence[dg.DagsterRunStatus],
    project: str | None = None,
    outcome: str | None = None,
    others: Mapping[str, str] | None = None,
) -> int:
    """How many runs have one of these statuses, and this project, outcome and other tags where they are given."""
    tags = {run_tags.PROJECT: project, run_tags.OUTCOME: outcome, **(others or {})}
    given = {name: value for name, value in tags.items() if value is not None}
    return instance.get_runs_count(dg.RunsFilter(tags=given, statuses=statuses))


def sensor_samples(instance: dg.DagsterInstance, projects: Sequence[str]) -> Iterator[Sample]:
    """When each running sensor of these projects was evaluated last, and whether that failed."""
    newest: dict[str, tuple[float, float, InstigatorState]] = {}
    for state in _sensors(instance):
        data = state.instigator_data
        if not isinstance(data, SensorInstigatorData) or not data.last_tick_timestamp:
            continue
        # The same sensor of a workspace that was loaded from elsewhere is another one to Dagster.
        if _belongs(state.instigator_name, projects):
            known = newest.get(state.instigator_name)
            if known is None or data.last_tick_timestamp > known[0]:
                newest[state.instigator_name] = (
                    data.last_tick_timestamp,
                    data.min_interval or DEFAULT_SECONDS,
                    state,
                )
    for name, (when, interval, state) in newest.items():
        yield metric_families.SENSOR_TICK(when, name)
        yield metric_families.SENSOR_INTERVAL(interval, name)
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        yield metric_families.SENSOR_FAILED(bool(ticks) and ticks[0].status == TickStatus.FAILURE, name)


def daemon_samples(instance: dg.DagsterInstance) -> Iterator[Sample]:
    """When each daemon was alive last."""
    for name, heartbeat in instance.get_daemon_heartbeats().items():
        yield metric_families.DAEMON(heartbeat.timestamp, name.lower())


def unseen_samples(
    instance: dg.DagsterInstance, lakefs: LakeFSResource, projects: Iterable[Project]
) -> Iterator[Sample]:
    """How many commits on `main` no sensor has read; nothing where lakeFS, which is told of apart, is away."""
    states = list(_sensors(instance))
    for project in projects:
        sensor = f"{project.project}_commits"
        stored = f"visionops/tick/{sensor}"
        cursors = [
            state.instigator_data.cursor
            for state in states
            if state.instigator_name == sensor and isinstance(state.instigator_data, SensorInstigatorData)
        ]
        cursors.append(instance.daemon_cursor_storage.get_cursor_values({stored}).get(stored))
        seen = {json.loads(cursor).get("commit") for cursor in cursors if cursor} - {None}
        if not seen:
            continue
        try:
            yield metric_families.UNSEEN(_unseen(lakefs, project.repository, seen), project.project)
        except LakeFSError:
            continue


def _unseen(lakefs: LakeFSResource, repository: str, seen: set[str]) -> int:
    for number, commit in enumerate(lakefs.log(repository, MAIN, limit=UNSEEN_AT_MOST)):
        if commit.id in seen:
            return number
    return UNSEEN_AT_MOST


def _sensors(instance: dg.DagsterInstance) -> list[InstigatorState]:
    """The sensors that run."""
    found = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    return [state for state in found if state.status != InstigatorStatus.STOPPED]


def _belongs(sensor: str, projects: Sequence[str]) -> bool:
    return any(sensor.startswith(f"{project}_") for project in projects)


class Days:
    """The samples of production days; a project of which nothing was stored anew is not judged anew."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._told: dict[str, tuple[Listings, Project, list[Sample]]] = {}

    def samples(self, project: Project) -> list[Sample]:
        """All samples of a project's production days. Raises what the artifact store raises."""
        name = project.project
        newest = max(stored_dates(self._artifacts, name, "inference_log"), default=None)
        listings = {asset: self._listings(name, asset) for asset in ("drift_report", "performance")}
        known = self._told.get(name)
        if known is None or known[:2] != (listings, project):
            drift, performance = (
                {day: read_table(self._artifacts, listing) for day, listing in found.items()}
                for found in listings.values()
            )
            samples = [*drift_samples(project, drift), *performance_samples(project, performance)]
            known = self._told[name] = (listings, project, samples)
        fresh = [metric_families.NEWEST_DAY(midnight(newest), name)] if newest is not None else []
        return [*fresh, metric_families.FLOOR(project.performance_floor(), name), *known[2]]

    def _listings(self, project: str, asset: str) -> dict[date, dict[str, Any]]:
        """What names the table of the newest day, and of each of the `LOOK_BACK_DAYS` before it, oldest first."""
        days = stored_dates(self._artifacts, project, asset)
        found = {}
        for day in days:
            if day >= days[-1] - timedelta(LOOK_BACK_DAYS):
                # A day that is taken away meanwhile is not there.
                with contextlib.suppress(ArtifactNotFound):
                    found[day] = self._artifacts.read_json(asset_key(project, asset, day.isoformat()))
        return found


def drift_samples(project: Project, tables: Mapping[date, pd.DataFrame]) -> Iterator[Sample]:
    """Of each model that ran lately: its newest day's rows and share of drifted columns, and its alarm."""
    days = drift_days(tables)
    yield from _alarms(project, days, "drift")
    for where, day, rows in _newest(project, tables):
        labels = _labels(project, where)
        yield metric_families.ROWS(rows["rows"].iloc[0], *labels)
        compared = rows[rows["distance"].notna()]
        if len(compared):
            yield metric_families.DRIFT(compared["drifted"].astype(bool).mean(), *labels)
            yield metric_families.DRIFT_DAY(midnight(day), *labels)


def performance_samples(project: Project, tables: Mapping[date, pd.DataFrame]) -> Iterator[Sample]:
    """Of each model that ran lately: its newest day's performance with its interval, and its alarm."""
    yield from _alarms(project, performance_days(tables), "performance")
    for where, _, rows in _newest(project, tables):
        for kind in ("realised", "estimated"):
            for family, column in (
                (metric_families.PERFORMANCE, kind),
                (metric_families.PERFORMANCE_LOWER, f"{kind}_lower"),
                (metric_families.PERFORMANCE_UPPER, f"{kind}_upper"),
            ):
                value = rows[column].iloc[0]
                if pd.notna(value):
                    yield family(value, *_labels(project, where), kind)


def midnight(day: date) -> float:
    """The beginning of a UTC day, in seconds since 1970."""
    return datetime.combine(day, time(), UTC).timestamp()


def _alarms(project: Project, days: Mapping[Where, list[Day]], signal: str) -> Iterator[Sample]:
    newest = max((each.day for found in days.values() for each in found), default=None)
    for where, found in days.items():
        state = alarm_states(found, project.drift.days)[-1]
        if newest is None or not _counts(project, state.day, newest):
            continue
        labels = (*_labels(project, where), signal)
        yield metric_families.ALARM(state.since is not None, *labels)
        if state.since is not None:
            yield metric_families.ALARM_SINCE(midnight(state.since), *labels)


def _newest(
    project: Project, tables: Mapping[date, pd.DataFrame]
) -> Iterator[tuple[Where, date, pd.DataFrame]]:
    """The rows of each model's newest day, if that still counts."""
    found = {
        where: (day, rows) for day, table in tables.items() if len(table) for where, rows in by_model(table)
    }
    for where, (day, rows) in found.items():
        if _counts(project, day, max(tables)):
            yield where, day, rows


def _counts(project: Project, day: date, newest: date) -> bool:
    return day >= newest - timedelta(project.drift.days.within)


def _labels(project: Project, where: Where) -> tuple[str, str, str]:
    return project.project, where.device_group, model_label(where.model_sha256)
