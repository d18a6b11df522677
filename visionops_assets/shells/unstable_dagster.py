"""What we use of Dagster that it does not promise to keep: private names, each where a public one does not do, and
what is in beta or preview, whose warnings would come once an asset and load.

Another release of Dagster is tried here first.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    NULL_DATA_VERSION,
    NULL_EVENT_POINTER,
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.events import EngineEventData
from dagster._core.execution import compute_logs
from dagster._core.execution.api import execute_run_iterator
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.execute_in_process import merge_run_tags
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.base import Executor
from dagster._core.executor.in_process import InProcessExecutor
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._core.utils import make_new_run_id
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._utils.error import serializable_error_info_from_exc_info

if TYPE_CHECKING:
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        SensorInstigatorData,
        TickData,
        TickStatus,
    )

__all__ = [
    "CODE_VERSION_TAG",
    "DATA_VERSION_TAG",
    "NULL_DATA_VERSION",
    "NULL_EVENT_POINTER",
    "DefaultRunLauncher",
    "EngineEventData",
    "ExecutionPlan",
    "Executor",
    "InMemoryJob",
    "InProcessExecutor",
    "InstigatorState",
    "InstigatorStatus",
    "InstigatorType",
    "PlanOrchestrationContext",
    "RemoteRepositoryOrigin",
    "RetryMode",
    "SensorExecutionData",
    "SensorInstigatorData",
    "TickData",
    "TickStatus",
    "UnresolvedAssetJobDefinition",
    "compute_logs",
    "execute_run_iterator",
    "extract_data_version_from_entry",
    "get_input_data_version_tag",
    "get_input_event_pointer_tag",
    "location_origins_from_yaml_paths",
    "make_new_run_id",
    "merge_run_tags",
    "serializable_error_info_from_exc_info",
    "unwarned",
]


def __getattr__(name: str) -> Any:
    # Only who looks at ticks waits for their module, which takes longer than all others together.
    if name in __all__:
        from dagster._core.scheduler import instigation

        return getattr(instigation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@contextmanager
def unwarned() -> Iterator[None]:
    """Use what is in beta or preview without Dagster saying so each time."""
    with warnings.catch_warnings():
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category=category)
        yield
