"""Nothing phones home: the switches of every tool that would tell its makers of this machine, its users or its data.

`resources` throws them when it is imported, before any of the tools is: by a command, by Dagster's code location
however it was started, by a test, or by a script of one's own. One that is set already stays as it is.
"""

import os
from collections.abc import Mapping, MutableMapping

# Each tool's own name for it; those that are not installed cost nothing.
SWITCHES = {
    # What many agree on.
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DAGSTER_DG_UPDATE_CHECK_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # ONNX Runtime keeps a number for the device and a queue of events in the home of whoever runs it.
    "ORT_DISABLE_TELEMETRY": "1",
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "WANDB_ERROR_REPORTING": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NML_DISABLE_USAGE_LOGGING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    # MLflow's and others' traces go nowhere by themselves; so that this is not an address away.
    "OTEL_SDK_DISABLED": "true",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "SE_AVOID_STATS": "true",
}


def switch_off(environment: MutableMapping[str, str] = os.environ) -> None:
    """Throw every switch that is not set."""
    for name, value in SWITCHES.items():
        environment.setdefault(name, value)


def left_on(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The switches that somebody set the other way."""
    return sorted(
        name for name, value in SWITCHES.items() if _says(environment.get(name, "")) != _says(value)
    )


def _says(value: str) -> bool:
    """What a switch's value means: tools write yes and no in several ways."""
    return value.strip().lower() not in ("", "0", "false", "no", "off")
