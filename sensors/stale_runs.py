"""Runs whose process is gone. Dagster's default launcher never notices: such a run would stay STARTED for ever."""

import dagster as dg
import psutil
from dagster._core.launcher import DefaultRunLauncher

from visionops_assets import run_tags

_LIVE = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def end_stale_runs(instance: dg.DagsterInstance) -> list[str]:
    """End runs of this machine whose process no longer exists; returns their ids.

    They failed, unless somebody had told them to stop, or the machine was started anew since: those are canceled.

    A process is the recorded one if its pid exists and it was started before the run said so: a pid that the
    system has given to a younger process does not count. Runs of other machines and launchers are left alone.
    """
    if not isinstance(instance.run_launcher, DefaultRunLauncher):
        return []
    ended = []
    for record in instance.get_run_records(
        dg.RunsFilter(statuses=_LIVE, tags={run_tags.HOST: run_tags.host()})
    ):
        run = record.dagster_run
        found = _process(instance, run.run_id)
        if found is None or _alive(*found):
            continue
        pid, said_at = found
        if psutil.boot_time() > said_at and run_tags.OUTCOME not in run.tags:
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
