"""How runs run: in one process of this machine, which is noted on them; a failing step says one clear message, and
is not retried where trying again cannot help; the last event says how the run ended.

The process is told so that no clock matters: a pid alone is given to another process some time, and a time of the
wall means another one once the clock is set.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import psutil

from resources import home
from resources.drop_places import DropAway, DropUnavailable
from resources.escaping import without_secrets
from resources.lakefs.replies import LakeFSAway, LakeFSUnavailable
from resources.machine_errors import in_words, machine_error
from resources.models.lock import PromotionLocked
from resources.models.records import RegistryUnavailable
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.shells.run_outcomes import outcome_in_words, run_reason
from visionops_assets.shells.unstable_dagster import EngineEventData, Executor, InProcessExecutor, RetryMode

if TYPE_CHECKING:
    from visionops_assets.shells.unstable_dagster import ExecutionPlan, PlanOrchestrationContext


# Hidden in the UI, as all tags of this prefix are.
PROCESS_TAG = ".dagster/visionops/process"
_noted: set[str] = set()
_BOOT = Path("/proc/sys/kernel/random/boot_id")
MAX_RETRIES = 2
# A short outage is bridged here, after this long and then twice as long; a longer one is the sensor's, which requests
# the run again.
WAIT_SECONDS = 1.0
_TOLD = "This run's process was told to stop."
# A tag is for lists; the whole reason is the run's last event.
TAG_LENGTH = 200


@dataclass(frozen=True)
class RunProcess:
    """A process by its number, the start of the machine that it belongs to, and when after that it began."""

    boot: str
    pid: int
    began: str

    @classmethod
    def of(cls, pid: int) -> "RunProcess | None":
        """The process that has this pid now; None where none has, or it has ended and is not collected yet."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(_boot(), pid, _began(process))
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return None

    @classmethod
    def noted(cls, run: dg.DagsterRun) -> "RunProcess | None":
        """The process that noted itself on a run; None where none did. A tag that a re-execution took over is none."""
        whose, _, rest = run.tags.get(PROCESS_TAG, "").partition(" ")
        parts = rest.split(" ")
        if whose != run.run_id or len(parts) != 3 or not parts[1].isdigit():
            return None
        return cls(parts[0], int(parts[1]), parts[2])

    def is_alive(self) -> bool:
        """Whether this very process is there."""
        return RunProcess.of(self.pid) == self

    def is_of_this_boot(self) -> bool:
        """Whether the machine was not started anew since."""
        return self.boot == _boot()


def note_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note on a run that this process runs it; once."""
    if run_id in _noted:
        return
    _noted.add(run_id)
    if tags := process_tags(run_id):
        instance.add_run_tags(run_id, tags)


def process_tags(run_id: str) -> dict[str, str]:
    """The tags that note this process on a run."""
    here = RunProcess.of(os.getpid())
    return {} if here is None else {PROCESS_TAG: f"{run_id} {here.boot} {here.pid} {here.began}"}


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        # Elsewhere than on Linux, where processes know when they began whatever becomes of the clock.
        return "unknown"


def _began(process: psutil.Process) -> str:
    """In ticks since the machine's start on Linux, else when its clock showed it."""
    try:
        # The name in brackets may hold anything, blanks and brackets too.
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return f"{process.create_time():.2f}"


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
    home.give_up_reserve()
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


def job_options(project: Project) -> dict[str, Any]:
    """Executor and tags. In one process of this machine, so that stale runs can be told by their process."""
    return {
        "executor_def": one_process,
        "tags": {run_tags.HOST: run_tags.host(), run_tags.PROJECT: project.project},
    }


@dg.executor(name="in_process")
def one_process(_: dg.InitExecutorContext) -> Executor:
    """Dagster's own executor of that name, which says last how the run ended."""
    return _SayingHowItEnded(InProcessExecutor(RetryMode.ENABLED))


class _SayingHowItEnded(Executor):
    def __init__(self, inner: Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> RetryMode:
        return self._inner.retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        events = []
        for event in self._inner.execute(plan_context, execution_plan):
            events.append(event)
            yield event
        said = _note_end(plan_context.instance, plan_context.run_id, events)
        if said:
            yield dg.DagsterEvent.engine_event(plan_context, said, EngineEventData())


def _note_end(instance: dg.DagsterInstance, run_id: str, events: Sequence[dg.DagsterEvent]) -> str | None:
    """How the steps of a run ended and why, in words, with the reason as a tag; None where nothing was decided."""
    run = instance.get_run_by_id(run_id)
    failed = any(event.is_step_failure for event in events)
    outcome = run.tags.get(run_tags.OUTCOME) if run is not None else None
    if failed and outcome in (None, run_tags.LOGGED):
        outcome = run_tags.ERROR
    reason = run_reason(events, outcome or "")
    if not reason:
        return outcome
    short = reason if len(reason) <= TAG_LENGTH else f"{reason[: TAG_LENGTH - 1]}…"
    instance.add_run_tags(run_id, {run_tags.REASON: short})
    return outcome_in_words(outcome, reason) if outcome else reason
