"""A job or a sensor of a project, run in this process: the UI shows it where it shows what the daemon started."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from resources import home
from visionops import interruption
from visionops.terminal import progress_of
from visionops_assets.common import run_tags

if TYPE_CHECKING:
    import dagster as dg

    from visionops_assets.shells.unstable_dagster import RemoteRepositoryOrigin, SensorExecutionData


@dataclass(frozen=True)
class Ran:
    """A run that ended; `error` says what its first failed step said, `failed_checks` which checks stopped it."""

    run_id: str
    error: str | None
    failed_checks: tuple[str, ...] = ()
    events: "Sequence[dg.DagsterEvent]" = field(default=(), repr=False)


def run_job(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    job: str,
    *,
    partition: str | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> Ran:
    """Run a job to its end. `config` is that of its ops, by name; `run_id` a new UUID, made here by default.

    Raises `Interrupted` where a signal ended it; the run is canceled then, and was no attempt.
    """
    from visionops_assets.shells.job_execution import end_for_the_machine, end_interrupted, process_tags
    from visionops_assets.shells.run_outcomes import run_outcome
    from visionops_assets.shells.unstable_dagster import (
        InMemoryJob,
        execute_run_iterator,
        make_new_run_id,
        merge_run_tags,
    )

    _keep_followers_from_ctrl_c()
    found = defs.resolve_job_def(job)
    run_id = run_id or make_new_run_id()
    # Noted from the start: of a run that was made and never began, Dagster does not say whose it was.
    about = {run_tags.WEEK: run_tags.week_of(datetime.now(UTC)), **(tags or {}), **process_tags(run_id)}
    # The event log keeps everything; a terminal needs the outcome.
    run_config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if config:
        run_config["ops"] = {name: {"config": dict(values)} for name, values in config.items()}
    project = found.run_tags.get(run_tags.PROJECT, job)
    what = about.get(run_tags.BATCH) or about.get(run_tags.DAY) or partition or ""
    with (
        progress_of(f"{project} {what}".strip()) as hear,
        interruption.ending(lambda: end_interrupted(instance, run_id)),
    ):
        instance.add_event_listener(run_id, hear)
        try:
            run = instance.create_run_for_job(
                found,
                run_id=run_id,
                run_config=run_config,
                tags=merge_run_tags(found, partition, about, None, instance, run_config),
                remote_job_origin=repository_origin(defs).get_job_origin(job),
            )
            events = list(execute_run_iterator(InMemoryJob(found), run, instance))
        except Exception as error:
            end_for_the_machine(instance, run_id, error)
            raise
        finally:
            if interruption.asked():
                end_interrupted(instance, run_id)
    ended = instance.get_run_by_id(run_id)
    # Dagster keeps to itself what ended the run.
    if interruption.asked() or (ended is not None and run_outcome(ended) == run_tags.INTERRUPTED):
        raise interruption.Interrupted
    succeeded = ended is not None and ended.is_success
    return Ran(run_id, None if succeeded else first_error(events), _failed_checks(events), events)


def _keep_followers_from_ctrl_c() -> None:
    """Start what follows a step's output in a group of its own: a terminal interrupts all of one, and it would answer
    with tracebacks.
    """
    from visionops_assets.shells.unstable_dagster import compute_logs

    compute_logs.subprocess = SimpleNamespace(Popen=partial(subprocess.Popen, process_group=0))  # type: ignore[assignment]


def repository_origin(defs: "dg.Definitions") -> "RemoteRepositoryOrigin":
    """Where `visionops up` has the code location: by its names the UI knows whose a run or a tick is."""
    from visionops_assets.shells.unstable_dagster import (
        RemoteRepositoryOrigin,
        location_origins_from_yaml_paths,
    )

    (location,) = location_origins_from_yaml_paths([str(home.ROOT / "workspace.yaml")])
    return RemoteRepositoryOrigin(location, defs.get_repository_def().name)


def first_error(events: "Sequence[dg.DagsterEvent]") -> str:
    """The message of the first step that failed, without its traceback."""
    for event in events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return data.user_failure_data.description
            error = data.error
            cause = error.cause if error is not None and error.cause is not None else error
            return cause.message.strip() if cause is not None else event.message or "the run failed"
    return "the run failed before its first step"


def _failed_checks(events: "Sequence[dg.DagsterEvent]") -> tuple[str, ...]:
    import dagster as dg

    found = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    return tuple(
        f"{each.check_name}: {each.description}"
        for each in found
        if not each.passed and each.severity == dg.AssetCheckSeverity.ERROR
    )


# The daemon's names for who asked for a run.
ASKED_BY, RUN_KEY = "dagster/sensor_name", "dagster/run_key"


@dataclass
class SensorTick:
    """What a look of a sensor came to, as its page will show it."""

    asked: "SensorExecutionData | None" = None
    run_ids: list[str] = field(default_factory=list)
    run_keys: list[str] = field(default_factory=list)

    def requested(self, run_id: str, run_key: str | None) -> None:
        """A run that the look led to."""
        self.run_ids.append(run_id)
        if run_key:
            self.run_keys.append(run_key)


def evaluate_sensor(
    defs: "dg.Definitions", instance: "dg.DagsterInstance", name: str
) -> "SensorExecutionData":
    """Evaluate a sensor once from its own cursor: partitions are added, events reported, the runs are the caller's."""
    import dagster as dg

    repository = defs.get_repository_def()
    sensor = repository.get_sensor_def(name)
    resources = repository.get_top_level_resources()
    stored_cursor = f"visionops/tick/{name}"
    cursor = instance.daemon_cursor_storage.get_cursor_values({stored_cursor}).get(stored_cursor)
    with dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        cursor=cursor,
        repository_def=repository,
        sensor_name=name,
        resources={key: resources[key] for key in sensor.required_resource_keys},
    ) as context:
        asked = sensor.evaluate_tick(context)
    for request in asked.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    for event in asked.asset_events:
        instance.report_runless_asset_event(event)
    if asked.cursor:
        instance.daemon_cursor_storage.set_cursor_values({stored_cursor: asked.cursor})
    return asked


def sensor_tags(request: "dg.RunRequest", sensor: str) -> dict[str, str]:
    """A request's tags with who asked, so that UI and daemon know the run for the sensor's."""
    return {**request.tags, ASKED_BY: sensor, RUN_KEY: request.run_key or ""}


@contextmanager
def recorded_tick(defs: "dg.Definitions", instance: "dg.DagsterInstance", name: str) -> Iterator[SensorTick]:
    """A look of a sensor, written to its page when the block ends; one that raises, as failed."""
    from visionops_assets.shells.unstable_dagster import serializable_error_info_from_exc_info

    began, tick = time.time(), SensorTick()
    try:
        yield tick
    except Exception:
        error = serializable_error_info_from_exc_info(sys.exc_info())
        _write_tick(defs, instance, name, began, tick, error)
        raise
    _write_tick(defs, instance, name, began, tick)


def _write_tick(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    name: str,
    began: float,
    tick: SensorTick,
    error: "dg.SerializableErrorInfo | None" = None,
) -> None:
    from visionops_assets.shells.unstable_dagster import InstigatorType, TickData, TickStatus

    status = TickStatus.FAILURE if error else TickStatus.SUCCESS if tick.run_ids else TickStatus.SKIPPED
    origin = repository_origin(defs).get_instigator_origin(name)
    instance.create_tick(
        TickData(
            instigator_origin_id=origin.get_id(),
            instigator_name=name,
            instigator_type=InstigatorType.SENSOR,
            status=status,
            timestamp=began,
            end_timestamp=time.time(),
            selector_id=origin.get_selector().get_id(),
            run_ids=tick.run_ids,
            run_keys=tick.run_keys,
            error=error,
            skip_reason=tick.asked.skip_message
            if tick.asked is not None and status == TickStatus.SKIPPED
            else None,
            cursor=tick.asked.cursor if tick.asked is not None else None,
        )
    )
    _forget_old_ticks(instance, origin.get_id(), origin.get_selector().get_id())


def _forget_old_ticks(instance: "dg.DagsterInstance", origin_id: str, selector_id: str) -> None:
    """As long as `dagster.yaml` says: where no daemon runs, nobody else does."""
    from visionops_assets.shells.unstable_dagster import InstigatorType

    now = datetime.now(UTC)
    for status, days in instance.get_tick_retention_settings(InstigatorType.SENSOR).items():
        if days > 0:
            before = (now - timedelta(days=days)).timestamp()
            instance.purge_ticks(origin_id, selector_id, before=before, tick_statuses=[status])
