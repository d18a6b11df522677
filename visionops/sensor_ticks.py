"""A sensor, evaluated in this process as the daemon does, with a tick on its page.

The daemon's own state of a sensor, its cursor and when it looked last, is left alone: what is kept here is another
cursor, and ticks that are over when they are written, of which the daemon resumes none.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from visionops.runs import repository_origin

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.definitions.sensor_definition import SensorExecutionData

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
    from dagster._utils.error import serializable_error_info_from_exc_info

    began, tick = time.time(), SensorTick()
    try:
        yield tick
    except Exception:
        error = serializable_error_info_from_exc_info(sys.exc_info())
        _write(defs, instance, name, began, tick, error)
        raise
    _write(defs, instance, name, began, tick)


def _write(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    name: str,
    began: float,
    tick: SensorTick,
    error: "dg.SerializableErrorInfo | None" = None,
) -> None:
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import TickData, TickStatus

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
    _forget_old(instance, origin.get_id(), origin.get_selector().get_id())


def _forget_old(instance: "dg.DagsterInstance", origin_id: str, selector_id: str) -> None:
    """As long as `dagster.yaml` says: where no daemon runs, nobody else does."""
    from dagster._core.definitions.run_request import InstigatorType

    now = datetime.now(UTC)
    for status, days in instance.get_tick_retention_settings(InstigatorType.SENSOR).items():
        if days > 0:
            before = (now - timedelta(days=days)).timestamp()
            instance.purge_ticks(origin_id, selector_id, before=before, tick_statuses=[status])
