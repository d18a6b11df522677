"""Runs whose process is gone are ended, and what failed or cancelled runs left undone is told.

Dagster's default launcher never notices that a process is gone: such a run would stay STARTED for ever. What is
owed is told in a sentence with its command, from Dagster's runs alone: the sensors know more, and have to look at
lakeFS.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass

import dagster as dg
import psutil

from resources.drop import Drop
from resources.drop_places import DropError
from sensors.readiness import SETTLED, cancelled, failed, given_up
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.shells.job_execution import RunProcess
from visionops_assets.shells.run_outcomes import is_attempt, run_outcome
from visionops_assets.shells.unstable_dagster import DefaultRunLauncher

# What has not begun has no process, unless one noted so when it made the run.
_LIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_STOPPED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_DONE = {*SETTLED, run_tags.PUBLISHED, run_tags.UNCHANGED}


def end_stale_runs(instance: dg.DagsterInstance) -> list[str]:
    """End runs of this machine whose process no longer exists; returns their ids.

    They failed, unless somebody had told them to stop, or the machine was started anew since: those are canceled.

    A process is the recorded one if it has that pid and began when that did. Before it has noted so, it is if it was
    started before the run said so: a pid that the system has given to a younger process does not count. Runs of other
    machines and launchers are left alone.
    """
    if not isinstance(instance.run_launcher, DefaultRunLauncher):
        return []
    ended = []
    for record in instance.get_run_records(
        dg.RunsFilter(statuses=_LIVE, tags={run_tags.HOST: run_tags.host()})
    ):
        run = record.dagster_run
        found = _last_known_process(instance, run)
        if found is None or found.alive:
            continue
        pid = found.pid
        if found.restarted and run_tags.OUTCOME not in run.tags:
            instance.add_run_tags(run.run_id, {run_tags.OUTCOME: run_tags.INTERRUPTED})
            instance.report_run_canceled(
                run, message=f"this machine was started anew since process {pid} ran it"
            )
        elif (
            run.status == dg.DagsterRunStatus.CANCELING
            or run.tags.get(run_tags.OUTCOME) == run_tags.INTERRUPTED
        ):
            instance.report_run_canceled(
                run, message=f"process {pid} of this run was told to stop, and is gone"
            )
        else:
            instance.report_run_failed(run, message=f"process {pid} of this run is gone; it was killed")
        ended.append(run.run_id)
    return ended


def runs_in(instance: dg.DagsterInstance, groups: Set[int]) -> list[str]:
    """Ids of the runs of this machine that processes of these groups execute."""
    found = []
    for record in instance.get_run_records(
        dg.RunsFilter(statuses=_LIVE, tags={run_tags.HOST: run_tags.host()})
    ):
        known = _last_known_process(instance, record.dagster_run)
        with contextlib.suppress(ProcessLookupError):
            if known is not None and known.alive and os.getpgid(known.pid) in groups:
                found.append(record.dagster_run.run_id)
    return found


@dataclass(frozen=True)
class _KnownProcess:
    """A run's process: whether it is there, and whether the machine was started anew since it was."""

    pid: int
    alive: bool
    restarted: bool


def _last_known_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> _KnownProcess | None:
    """The process that said last that it executes a run; None where none did."""
    noted = RunProcess.noted(run)
    if noted is not None:
        return _KnownProcess(noted.pid, noted.is_alive(), not noted.is_of_this_boot())
    # Until its first step begins, a run has what Dagster says of it.
    said = _process_said(instance, run.run_id)
    if said is None:
        return None
    pid, at = said
    return _KnownProcess(pid, _process_is_alive(pid, at), psutil.boot_time() > at)


def _process_said(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """The pid that said last that it executes the run, and when it said so."""
    latest = None
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event is not None else None
        # A step that runs in a process of its own has a step key; the run's own process has none.
        if pid is not None and event is not None and event.step_key is None:
            latest = int(str(pid.value).split()[0]), entry.timestamp
    return latest


def _process_is_alive(pid: int, said_at: float) -> bool:
    try:
        process = psutil.Process(pid)
        return bool(process.create_time() <= said_at + 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def owed(instance: dg.DagsterInstance, project: Project, drop: Drop) -> list[str]:
    """The newest dataset version whose decision failed, production days that did, and batches that were not taken."""
    return [
        *_owed_version(instance, project),
        *_owed_days(instance, project),
        *_owed_batches(instance, project, drop),
    ]


def _owed_version(instance: dg.DagsterInstance, project: Project) -> Iterator[str]:
    wanted = {run_tags.PROJECT: project.project, run_tags.INTENT: run_tags.DECISION}
    newest = next(
        (run for run in instance.get_runs(dg.RunsFilter(tags=wanted), limit=20) if _was_asked(run)), None
    )
    if newest is None or run_tags.COMMIT not in newest.tags:
        return
    same = {
        name: newest.tags[name]
        for name in (run_tags.COMMIT, run_tags.TRAINING_VERSION)
        if name in newest.tags
    }
    runs = [run for run in instance.get_runs(dg.RunsFilter(tags={**wanted, **same})) if _was_asked(run)]
    what = newest.tags.get(run_tags.PARTITION) or newest.tags[run_tags.COMMIT][:12]
    yield from told_with_command(project.project, what, runs, project.trigger.attempts, at_the_next_tick)


def _owed_days(instance: dg.DagsterInstance, project: Project) -> Iterator[str]:
    """A day given up is tried again all the same, each time after twice as long."""

    def by_itself(what: str, count: int) -> str:
        command = f"`visionops tick {project.project} --again`"
        return f"{at_the_next_tick(what, count)} once it has waited, or by {command}"

    for day, runs in _stopped_runs(instance, project, run_tags.DAY):
        newest = [run for run in runs if run.tags.get(run_tags.COMMIT) == runs[0].tags.get(run_tags.COMMIT)]
        yield from told_with_command(project.project, f"production day {day}", newest, None, by_itself)


def _owed_batches(instance: dg.DagsterInstance, project: Project, drop: Drop) -> Iterator[str]:
    for batch, runs in _stopped_runs(instance, project, run_tags.BATCH):
        newest = [run for run in runs if run.tags.get(run_tags.DROP) == runs[0].tags.get(run_tags.DROP)]
        if run_tags.DROP in runs[0].tags and _lies_there(drop, project, batch):
            what = f"batch {batch} of the drop"
            yield from told_with_command(
                project.project, what, newest, project.drop.attempts, at_the_next_tick
            )


def _lies_there(drop: Drop, project: Project, batch: str) -> bool:
    try:
        return batch in drop.place(project.project, project.drop.address).batches()
    except DropError:
        # That it does not answer is told by whoever looks at it.
        return True


def _stopped_runs(
    instance: dg.DagsterInstance, project: Project, tag: str
) -> Iterator[tuple[str, Sequence[dg.DagsterRun]]]:
    """All runs that sensors asked for of each thing of which one stopped, newest first, by the value of its tag."""
    mine = {run_tags.PROJECT: project.project}
    stopped = instance.get_runs(dg.RunsFilter(tags=mine, statuses=_STOPPED))
    for value in sorted({run.tags[tag] for run in stopped if tag in run.tags and _was_asked(run)}):
        filters = dg.RunsFilter(tags={**mine, tag: value})
        yield value, [run for run in instance.get_runs(filters) if _was_asked(run)]


def _was_asked(run: dg.DagsterRun) -> bool:
    return run_tags.ATTEMPT in run.tags


def told_with_command(
    project: str,
    what: str,
    runs: Sequence[dg.DagsterRun],
    most: int | None,
    tried_again: Callable[[str, int], str],
) -> Iterator[str]:
    """What is to be told of runs about one thing, newest first: nothing where it was done, or is being done."""
    if not runs or any(not run.is_finished or run.is_success or run_outcome(run) in _DONE for run in runs):
        return
    attempts = [run for run in runs if is_attempt(run)]
    by_hand = next((run for run in attempts if run.status == dg.DagsterRunStatus.CANCELED), None)
    if by_hand is not None:
        yield cancelled(project, what, by_hand.run_id).reason
    elif most is not None and (
        stopped := given_up(project, what, most, [run.run_id for run in reversed(attempts)])
    ):
        yield stopped.reason
    elif run_outcome(runs[0]) == run_tags.ERROR:
        yield f"{tried_again(what, len(attempts))}; the last was run {runs[0].run_id}"


def at_the_next_tick(what: str, count: int) -> str:
    """What to say of a thing that failed `count` times, and less often than it may."""
    times = failed(count) if count else "failed"
    return f"{what} {times} with an error, and is tried again by the next tick"
