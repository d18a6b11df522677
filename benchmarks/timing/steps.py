"""How long the steps of a Dagster run took."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg


def step_seconds(instance: "dg.DagsterInstance", run_id: str, step: str) -> float:
    """How long a step of a run took."""
    times: dict[str, float] = {}
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        if event is not None and event.step_key == step:
            times.setdefault(event.event_type_value, entry.timestamp)
    return times.get("STEP_SUCCESS", 0.0) - times.get("STEP_START", 0.0)
