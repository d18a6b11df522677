"""What Dagster's storage says: runs by outcome, the latest ticks of sensors, its daemons."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickStatus,
)

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSError
from visionops.exporter import families
from visionops.exporter.families import Sample
from visionops_assets.common import run_tags
from visionops_assets.project import Project
from visionops_assets.run_reason import FAILURE_REASON, TOLD_TO_END

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


def run_samples(instance: dg.DagsterInstance, projects: Sequence[str]) -> Iterator[Sample]:
    """Runs of each project by outcome, errors of runs without a project, and the runs there are now.

    A failed run that nobody explained is an error, whether or not a sensor has said so by now.
    """
    for project in projects:
        for outcome in _EXPLAINED:
            yield families.RUNS(_count(instance, ANY, project, outcome), project, outcome)
        for status, statuses in NOW.items():
            yield families.RUNS_NOW(_count(instance, statuses, project), project, status)
    for _ in range(LOOKS):
        failed = _count(instance, FAILED)
        errors = {project: _errors(instance, project) for project in projects}
        of_projects = sum(_count(instance, FAILED, project) for project in projects)
        # Differences of numbers that were read while a run failed would be a counter that jumps and comes back.
        if _count(instance, FAILED) == failed:
            yield from (families.RUNS(found, project, run_tags.ERROR) for project, found in errors.items())
            yield families.RUNS(failed - of_projects, "", run_tags.ERROR)
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
        yield families.SENSOR_TICK(when, name)
        yield families.SENSOR_INTERVAL(interval, name)
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        yield families.SENSOR_FAILED(bool(ticks) and ticks[0].status == TickStatus.FAILURE, name)


def daemon_samples(instance: dg.DagsterInstance) -> Iterator[Sample]:
    """When each daemon was alive last."""
    for name, heartbeat in instance.get_daemon_heartbeats().items():
        yield families.DAEMON(heartbeat.timestamp, name.lower())


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
            yield families.UNSEEN(_unseen(lakefs, project.repository, seen), project.project)
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
