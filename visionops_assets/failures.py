"""What a failing step says in the UI: one clear message, and no retry where trying again cannot help."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from resources import reserve
from resources.drop_errors import DropAway, DropUnavailable
from resources.lakefs_errors import LakeFSAway, LakeFSUnavailable
from resources.machine_errors import in_words, machine_error
from resources.masking import without_secrets
from resources.model_errors import RegistryUnavailable
from resources.models.lock import PromotionLocked
from visionops_assets.common import run_tags
from visionops_assets.run_process import note_process

MAX_RETRIES = 2
# A short outage is bridged here, after this long and then twice as long; a longer one is the sensor's, which requests
# the run again.
WAIT_SECONDS = 1.0
_TOLD = "This run's process was told to stop."


@contextmanager
def clear_failures(step: dg.AssetExecutionContext | dg.OpExecutionContext | None = None) -> Iterator[None]:
    """Turn any error into a final failure that says what the error says.

    For a `step`, a service that does not answer is tried again while attempts are left. A RetryPolicy would not do:
    Dagster's also starts a step again that a person stopped. What is interrupted is noted so.
    """
    if step is not None:
        note_process(step.instance, step.run.run_id)
    try:
        yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except (DropUnavailable, LakeFSUnavailable, RegistryUnavailable, PromotionLocked) as error:
        said = machine_error(error)
        if said is not None and step is not None:
            note_machine_error(step.instance, step.run.run_id, said)
        elif step is not None and step.retry_number < MAX_RETRIES:
            wait = WAIT_SECONDS * 2**step.retry_number
            raise dg.RetryRequested(MAX_RETRIES, wait) from error
        elif step is not None and isinstance(error, RegistryUnavailable | LakeFSAway | DropAway):
            # The sensors ask for nothing before it answers again.
            note_machine_error(step.instance, step.run.run_id, str(error))
        raise dg.Failure(description=without_secrets(str(error)), allow_retries=False) from error
    except Exception as error:
        said = machine_error(error)
        if said is not None and step is not None:
            note_machine_error(step.instance, step.run.run_id, said)
        raise dg.Failure(description=without_secrets(in_words(error)), allow_retries=False) from error
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        if step is not None:
            note_interruption(step.instance, step.run.run_id)
        raise


def note_machine_error(instance: dg.DagsterInstance, run_id: str, said: str) -> None:
    """Note of a run that its machine is to blame: it is an error, and no attempt. What was kept for it on a disk that
    is full is used up, and where there was none the note may not be taken."""
    reserve.give_up()
    with contextlib.suppress(Exception):
        instance.add_run_tags(run_id, {run_tags.MACHINE: said[:200]})


def end_for_the_machine(instance: dg.DagsterInstance, run_id: str, error: BaseException) -> None:
    """Have a run end that Dagster itself could not go on with, where its machine is to blame, as on a full disk."""
    said = machine_error(error)
    if said is None:
        return
    note_machine_error(instance, run_id, said)
    with contextlib.suppress(Exception):
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, message=said)


def note_interruption(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note of a run that has not ended that it is being stopped by a signal: it ends as canceled, and was no attempt.

    What a person cancels in Dagster's UI is being canceled before it hears of it, and stays theirs to start again.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished or run.status == dg.DagsterRunStatus.CANCELING:
        return
    if run_tags.OUTCOME not in run.tags:
        instance.add_run_tags(run_id, {run_tags.OUTCOME: run_tags.INTERRUPTED})
    instance.report_run_canceling(run, message=_TOLD)


def end_interrupted(instance: dg.DagsterInstance, run_id: str) -> None:
    """Have a run whose process was told to stop end as canceled, wherever in Dagster the signal found it.

    What was decided before stays decided, and what a person cancels stays theirs.
    """
    note_interruption(instance, run_id)
    run = instance.get_run_by_id(run_id)
    if run is None or run.status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED):
        return
    outcome = run.tags.get(run_tags.OUTCOME)
    if run.is_finished and outcome not in (None, run_tags.INTERRUPTED):
        return
    if outcome is None:
        instance.add_run_tags(run_id, {run_tags.OUTCOME: run_tags.INTERRUPTED})
    instance.report_run_canceled(run, message=_TOLD)
