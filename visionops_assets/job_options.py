"""What all jobs of a project have in common: they run in one process of this machine, and say last how they ended.

Dagster's page of a run opens at its last events, which are a traceback of a refusal and a list of steps.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.base import Executor
from dagster._core.executor.in_process import InProcessExecutor

from visionops_assets.common import run_tags
from visionops_assets.project import Project
from visionops_assets.run_reason import in_words, run_reason

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan

# A tag is for lists; the whole reason is the run's last event.
TAG_LENGTH = 200


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
    return in_words(outcome, reason) if outcome else reason
