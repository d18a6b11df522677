"""Runs whose process is gone. Dagster's default launcher never notices: such a run would stay STARTED for ever."""

import dagster as dg
import psutil
from dagster._core.launcher import DefaultRunLauncher

from visionops_assets.run_tags import HOST, host

_LIVE = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def fail_stale_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs of this machine as failed whose process no longer exists; returns their ids.

    A process is the recorded one if its pid exists and it was started before the run said so: a pid that the
    system has given to a younger process does not count. Runs of other machines and launchers are left alone.
    """
    if not isinstance(instance.run_launcher, DefaultRunLauncher):
        return []
    failed = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_LIVE, tags={HOST: host()})):
        run = record.dagster_run
        found = _process(instance, run.run_id)
        if found is not None and not _alive(*found):
            instance.report_run_failed(run, message=f"process {found[0]} of this run is gone; it was killed")
            failed.append(run.run_id)
    return failed


def _process(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
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
        return process.create_time() <= said_at + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
