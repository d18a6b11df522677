"""How a run ended, and why, from its events, in words."""

from collections.abc import Iterable

import dagster as dg

from visionops_assets import run_tags
from visionops_assets.monitoring.inference_log import LOG_IS_COMPLETE


def run_outcome(run: dg.DagsterRun) -> str | None:
    """How a run ended; None where it has not, or where nothing was to be decided.

    Whoever stops a run for a reason says so: a failed run that nobody explained is an error. So is a day whose log
    was read and whose later steps failed: it counts as logged only when the whole run succeeded.
    """
    outcome = run.tags.get(run_tags.OUTCOME)
    if run.status == dg.DagsterRunStatus.FAILURE and outcome in (None, run_tags.LOGGED):
        return run_tags.ERROR
    return outcome


def note_error(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """`run_outcome`, written as the run's tag where it is an error that no tag says."""
    outcome = run_outcome(run)
    if outcome == run_tags.ERROR and run.tags.get(run_tags.OUTCOME) != outcome:
        instance.add_run_tags(run.run_id, {run_tags.OUTCOME: outcome})
    return outcome


def run_reason(events: Iterable[dg.DagsterEvent], outcome: str) -> str:
    """The verdict, or what a day's log has; of an error what the first failing step says, or, where none failed, what
    the run says; of a refusal the checks that failed."""
    verdict, run_failed, failed = None, None, []
    for event in events:
        if event.is_step_failure and outcome == run_tags.ERROR:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return f"{event.step_key}: {data.user_failure_data.description}"
            return (
                f"{event.step_key}: {data.error.message.strip() if data.error is not None else event.message}"
            )
        if event.event_type == dg.DagsterEventType.RUN_FAILURE:
            run_failed = event.message
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if check.check_name == "beats_champion":
                verdict = check.description
            elif check.check_name == LOG_IS_COMPLETE:
                verdict = (check.description or "").partition("\n")[0]
            elif not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                failed.append(f"{check.check_name}: {check.description}")
    return verdict or "; ".join(failed) or (run_failed if outcome == run_tags.ERROR else None) or outcome
