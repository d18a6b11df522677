"""A job of a project, run in this process: the UI shows it as any other run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class Ran:
    """A run that ended; `error` says what its first failed step said, `failed_checks` which checks stopped it."""

    run_id: str
    error: str | None
    failed_checks: tuple[str, ...] = ()


def run_job(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    job: str,
    *,
    partition: str | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Ran:
    """Run a job to its end. `config` is that of its ops, by name."""
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        partition_key=partition,
        tags=dict(tags or {}),
        # The event log keeps everything; a terminal needs the outcome.
        run_config={
            "ops": {name: {"config": dict(values)} for name, values in (config or {}).items()},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )
    return Ran(result.run_id, None if result.success else first_error(result), _failed_checks(result))


def _failed_checks(result: "dg.ExecuteInProcessResult") -> tuple[str, ...]:
    import dagster as dg

    found = [each for each in result.get_asset_check_evaluations() if not each.passed]
    return tuple(
        f"{each.check_name}: {each.description}"
        for each in found
        if each.severity == dg.AssetCheckSeverity.ERROR
    )


def first_error(result: "dg.ExecuteInProcessResult") -> str:
    """The message of the first step that failed, without its traceback."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return data.user_failure_data.description
            error = data.error
            cause = error.cause if error is not None and error.cause is not None else error
            return cause.message.strip() if cause is not None else event.message or "the run failed"
    return "the run failed before its first step"
