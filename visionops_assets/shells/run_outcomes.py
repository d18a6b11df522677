"""How a run ended, and why, from its events, in words."""

from collections.abc import Iterable

import dagster as dg

from visionops_assets.common import run_tags
from visionops_assets.common.run_tags import LOG_IS_COMPLETE
from visionops_assets.shells.asset_options import EDGE_BUNDLE, IN_PRODUCTION, INCOMING_BATCH, SAID

# As Dagster tags a failed run whose process got a signal that nobody sent through Dagster.
FAILURE_REASON, TOLD_TO_END = "dagster/failure_reason", "UNEXPECTED_TERMINATION"
_FINDINGS_SHOWN = 3


def run_outcome(run: dg.DagsterRun) -> str | None:
    """How a run ended; None where it has not, or where nothing was to be decided.

    Whoever stops a run for a reason says so: a failed run that nobody explained is an error. So is a day whose log
    was read and whose later steps failed: it counts as logged only when the whole run succeeded. A run whose process
    was told to end was interrupted.
    """
    outcome = run.tags.get(run_tags.OUTCOME)
    if run.status == dg.DagsterRunStatus.FAILURE and outcome in (None, run_tags.LOGGED):
        told_to_end = run.tags.get(FAILURE_REASON) == TOLD_TO_END
        return run_tags.INTERRUPTED if told_to_end else run_tags.ERROR
    return outcome


def note_outcome(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """`run_outcome`, written as the run's tag where no tag says it."""
    outcome = run_outcome(run)
    if outcome is not None and run.tags.get(run_tags.OUTCOME) != outcome:
        instance.add_run_tags(run.run_id, {run_tags.OUTCOME: outcome})
    return outcome


def is_attempt(run: dg.DagsterRun) -> bool:
    """Whether a run counts as an attempt: not where it was interrupted, or its machine was to blame, or where a person
    had it tried again."""
    excused = run_tags.AGAIN in run.tags or run_tags.MACHINE in run.tags
    return run_outcome(run) != run_tags.INTERRUPTED and not excused


# Of the values of the tag, those that people are told otherwise; a verdict as `status` has it.
_SAID = {run_tags.AWAITING_APPROVAL: "awaiting approval", run_tags.INSUFFICIENT: "INSUFFICIENT"}


def outcome_in_words(outcome: str, reason: str) -> str:
    """An outcome with its reason behind it, neither said twice: a reason may begin with the outcome, or be it."""
    said = _SAID.get(outcome, outcome)
    if reason.casefold() == outcome.casefold():
        return said
    if reason.casefold().startswith(f"{outcome}: ".casefold()):
        reason = reason[len(outcome) + 2 :]
    return f"{said}: {reason}" if reason else said


def run_reason(events: Iterable[dg.DagsterEvent], outcome: str) -> str:
    """The verdict, what came of a batch, or what a day's log has; of an error what the first failing step says, or,
    where none failed, what the run says; of a refusal the checks that failed; of a change by hand what runs since; of a
    delivery what device groups were given."""
    verdict, run_failed, changed, taken, failed = None, None, None, None, []
    for event in events:
        if event.is_step_failure and outcome == run_tags.ERROR:
            return _of_a_failure(event)
        if event.event_type == dg.DagsterEventType.RUN_FAILURE:
            run_failed = event.message
        if event.is_step_materialization and event.asset_key is not None:
            made = event.step_materialization_data.materialization
            if event.asset_key.path[-1] == IN_PRODUCTION:
                changed = made.description
            else:
                if event.asset_key.path[-1] == EDGE_BUNDLE:
                    # It says what rollouts changed, too.
                    changed = None
                taken = _of_what_was_made(event.asset_key.path[-1], made, taken)
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if check.check_name == "beats_champion":
                verdict = check.description
            elif check.check_name == LOG_IS_COMPLETE:
                verdict = _of_a_log(check.description or "")
            elif not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                failed.append(f"{check.check_name}: {check.description}")
    said = verdict or "; ".join(failed) or changed or taken
    return said or (run_failed if outcome == run_tags.ERROR else None) or outcome


def _of_a_failure(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return f"{event.step_key}: {data.user_failure_data.description}"
    return f"{event.step_key}: {data.error.message.strip() if data.error is not None else event.message}"


def _of_what_was_made(asset: str, made: dg.AssetMaterialization, before: str | None) -> str | None:
    if asset == INCOMING_BATCH:
        return _of_a_batch(made)
    said = made.metadata.get(SAID) if asset == EDGE_BUNDLE else None
    return str(said.value) if said is not None else before


def _of_a_log(description: str) -> str:
    """How many rows a day has, and what was left out of it: the first findings with the file or device of each."""
    rows, *findings = (line.strip() for line in description.splitlines() or [""])
    shown = findings[:_FINDINGS_SHOWN]
    left = [f"and {len(findings) - len(shown)} more lines"] if len(findings) > len(shown) else []
    return rows if not shown else f"{rows}: {'; '.join([*shown, *left])}"


def _of_a_batch(event: dg.AssetMaterialization) -> str | None:
    images = event.metadata.get("images")
    count = (
        f"{images.value:,} images" if images is not None and isinstance(images.value, int) else "its images"
    )
    outcome, warned = event.metadata.get("outcome"), event.metadata.get("warnings")
    told = f"; {warned.value}" if warned is not None and warned.value else ""
    said = {
        run_tags.PUBLISHED: f"batch {event.partition}: {count} are on main now{told}",
        run_tags.UNCHANGED: f"batch {event.partition}: {count} were on main already",
    }
    return said.get(str(outcome.value)) if outcome is not None else None
