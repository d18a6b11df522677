"""What we use of Dagster that it does not promise to keep: private names, each where a public one does not do, and
what is in beta or preview, whose warnings would come once an asset and load.

Another release of Dagster is tried here first. Names are looked up when they are asked for: nothing loads for nothing.
"""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.definitions.data_version import (
        CODE_VERSION_TAG as CODE_VERSION_TAG,
    )
    from dagster._core.definitions.data_version import (
        DATA_VERSION_TAG as DATA_VERSION_TAG,
    )
    from dagster._core.definitions.data_version import (
        NULL_DATA_VERSION as NULL_DATA_VERSION,
    )
    from dagster._core.definitions.data_version import (
        NULL_EVENT_POINTER as NULL_EVENT_POINTER,
    )
    from dagster._core.definitions.data_version import (
        extract_data_version_from_entry as extract_data_version_from_entry,
    )
    from dagster._core.definitions.data_version import (
        get_input_data_version_tag as get_input_data_version_tag,
    )
    from dagster._core.definitions.data_version import (
        get_input_event_pointer_tag as get_input_event_pointer_tag,
    )
    from dagster._core.definitions.job_base import (
        InMemoryJob as InMemoryJob,
    )
    from dagster._core.definitions.run_request import (
        InstigatorType as InstigatorType,
    )
    from dagster._core.definitions.sensor_definition import (
        SensorExecutionData as SensorExecutionData,
    )
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition as UnresolvedAssetJobDefinition,
    )
    from dagster._core.events import (
        EngineEventData as EngineEventData,
    )
    from dagster._core.execution import (
        compute_logs as compute_logs,
    )
    from dagster._core.execution.api import (
        execute_run_iterator as execute_run_iterator,
    )
    from dagster._core.execution.context.system import (
        PlanOrchestrationContext as PlanOrchestrationContext,
    )
    from dagster._core.execution.execute_in_process import (
        merge_run_tags as merge_run_tags,
    )
    from dagster._core.execution.plan.plan import (
        ExecutionPlan as ExecutionPlan,
    )
    from dagster._core.execution.retries import (
        RetryMode as RetryMode,
    )
    from dagster._core.executor.base import (
        Executor as Executor,
    )
    from dagster._core.executor.in_process import (
        InProcessExecutor as InProcessExecutor,
    )
    from dagster._core.launcher import (
        DefaultRunLauncher as DefaultRunLauncher,
    )
    from dagster._core.remote_origin import (
        RemoteRepositoryOrigin as RemoteRepositoryOrigin,
    )
    from dagster._core.scheduler.instigation import (
        InstigatorState as InstigatorState,
    )
    from dagster._core.scheduler.instigation import (
        InstigatorStatus as InstigatorStatus,
    )
    from dagster._core.scheduler.instigation import (
        SensorInstigatorData as SensorInstigatorData,
    )
    from dagster._core.scheduler.instigation import (
        TickData as TickData,
    )
    from dagster._core.scheduler.instigation import (
        TickStatus as TickStatus,
    )
    from dagster._core.utils import (
        make_new_run_id as make_new_run_id,
    )
    from dagster._core.workspace.load import (
        location_origins_from_yaml_paths as location_origins_from_yaml_paths,
    )
    from dagster._utils.error import (
        serializable_error_info_from_exc_info as serializable_error_info_from_exc_info,
    )

_HOMES = {
    "CODE_VERSION_TAG": "dagster._core.definitions.data_version",
    "DATA_VERSION_TAG": "dagster._core.definitions.data_version",
    "DefaultRunLauncher": "dagster._core.launcher",
    "EngineEventData": "dagster._core.events",
    "ExecutionPlan": "dagster._core.execution.plan.plan",
    "Executor": "dagster._core.executor.base",
    "InMemoryJob": "dagster._core.definitions.job_base",
    "InProcessExecutor": "dagster._core.executor.in_process",
    "InstigatorState": "dagster._core.scheduler.instigation",
    "InstigatorStatus": "dagster._core.scheduler.instigation",
    "InstigatorType": "dagster._core.definitions.run_request",
    "NULL_DATA_VERSION": "dagster._core.definitions.data_version",
    "NULL_EVENT_POINTER": "dagster._core.definitions.data_version",
    "PlanOrchestrationContext": "dagster._core.execution.context.system",
    "RemoteRepositoryOrigin": "dagster._core.remote_origin",
    "RetryMode": "dagster._core.execution.retries",
    "SensorExecutionData": "dagster._core.definitions.sensor_definition",
    "SensorInstigatorData": "dagster._core.scheduler.instigation",
    "TickData": "dagster._core.scheduler.instigation",
    "TickStatus": "dagster._core.scheduler.instigation",
    "UnresolvedAssetJobDefinition": "dagster._core.definitions.unresolved_asset_job_definition",
    "compute_logs": "dagster._core.execution",
    "execute_run_iterator": "dagster._core.execution.api",
    "extract_data_version_from_entry": "dagster._core.definitions.data_version",
    "get_input_data_version_tag": "dagster._core.definitions.data_version",
    "get_input_event_pointer_tag": "dagster._core.definitions.data_version",
    "location_origins_from_yaml_paths": "dagster._core.workspace.load",
    "make_new_run_id": "dagster._core.utils",
    "merge_run_tags": "dagster._core.execution.execute_in_process",
    "serializable_error_info_from_exc_info": "dagster._utils.error",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


@contextmanager
def unwarned() -> Iterator[None]:
    """Use what is in beta or preview without Dagster saying so each time."""
    with warnings.catch_warnings():
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category=category)
        yield
