"""Runs whose process is gone. Dagster's default launcher never notices: such a run would stay STARTED for ever."""

import contextlib
import os
from collections.abc import Set
from dataclasses import dataclass

import dagster as dg
import psutil
from dagster._core.launcher import DefaultRunLauncher

from visionops_assets.common import run_tags
from visionops_assets.run_process import RunProcess

# What has not begun has no process, unless one noted so when it made the run.
_LIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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
        found = _last_known(instance, run)
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
        known = _last_known(instance, record.dagster_run)
        with contextlib.suppress(ProcessLookupError):
            if known is not None and known.alive and os.getpgid(known.pid) in groups:
                found.append(record.dagster_run.run_id)
    return found


@dataclass(frozen=True)
class _Known:
    """A run's process: whether it is there, and whether the machine was started anew since it was."""

    pid: int
    alive: bool
    restarted: bool


def _last_known(instance: dg.DagsterInstance, run: dg.DagsterRun) -> _Known | None:
    """The process that said last that it executes a run; None where none did."""
    noted = RunProcess.noted(run)
    if noted is not None:
        return _Known(noted.pid, noted.is_alive(), not noted.is_of_this_boot())
    # Until its first step begins, a run has what Dagster says of it.
    said = _said(instance, run.run_id)
    if said is None:
        return None
    pid, at = said
    return _Known(pid, _alive(pid, at), psutil.boot_time() > at)


def _said(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """The pid that said last that it executes the run, and when it said so."""
    latest = None
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event is not None else None
        # A step that runs in a process of its own has a step key; the run's own process has none.
        if pid is not None and event is not None and event.step_key is None:
            latest = int(str(pid.value).split()[0]), entry.timestamp
    return latest


def _alive(pid: int, said_at: float) -> bool:
    try:
        process = psutil.Process(pid)
        return bool(process.create_time() <= said_at + 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
