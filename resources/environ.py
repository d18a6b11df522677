"""What the environment of a process has before any tool is imported, and what it hands on.

Nothing phones home: `resources` throws the switch of every tool when it is imported; one that is set stays.
Settings may stand in files, `NAME_FILE` for `NAME`, as containers are given secrets. lakeFS's actions are given the
token by which the webhook receiver knows them; where none is configured, one is made for this home.
"""

import contextlib
import os
import secrets
import uuid
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from resources import home
from resources.error_family import Invalid

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
FILE_SUFFIX = "_FILE"
# Besides all of VisionOps' own.
OTHER_SETTINGS = (
    "LAKEFS_ACCESS_KEY_ID",
    "LAKEFS_SECRET_ACCESS_KEY",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "DAGSTER_POSTGRES_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "WANDB_API_KEY",
    "REPO_TOKEN",
    "GH_TOKEN",
    "GITLAB_TOKEN",
    "LAKEFSACTION_VISIONOPS_TOKEN",
)
_OURS = "VISIONOPS_"
_LARGEST_BYTES = 64 << 10
WEBHOOK_TOKEN = "VISIONOPS_WEBHOOK_TOKEN"
LAKEFS_ACTION_TOKEN = "LAKEFSACTION_VISIONOPS_TOKEN"


def switch_telemetry_off(environment: MutableMapping[str, str] = os.environ) -> None:
    """Throw every switch that is not set."""
    for name, value in SWITCHES.items():
        environment.setdefault(name, value)


def telemetry_left_on(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The switches that somebody set the other way."""
    return sorted(
        name
        for name, value in SWITCHES.items()
        if _switch_says(environment.get(name, "")) != _switch_says(value)
    )


def _switch_says(value: str) -> bool:
    """What a switch's value means: tools write yes and no in several ways."""
    return value.strip().lower() not in ("", "0", "false", "no", "off")


class SecretFileUnusable(Invalid, RuntimeError):
    """A file that is to hold a setting cannot be used; the message names the variable and the file, never the value."""


def read_secret_files(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set each variable whose value stands in a file, without the line end at its end. Again is as good as once.

    Raises `SecretFileUnusable`.
    """
    for variable in [name for name in environment if name.endswith(FILE_SUFFIX)]:
        name, file = variable.removesuffix(FILE_SUFFIX), environment[variable]
        if not file or not (name in OTHER_SETTINGS or (name.startswith(_OURS) and name != _OURS)):
            continue
        value = _read_secret(variable, Path(file))
        # A process that was started by one that read it has both.
        if environment.get(name, value) not in ("", value):
            raise SecretFileUnusable(
                f"{name} and {variable} are both set, to different values: unset one of them"
            )
        environment[name] = value


def _read_secret(variable: str, file: Path) -> str:
    try:
        # No device and no pipe, which might never end.
        if file.exists() and not file.is_file():
            raise SecretFileUnusable(f"{variable}: {file} is no file")
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_BYTES + 1)
        value = content.decode().rstrip("\r\n")
    except OSError as error:
        raise SecretFileUnusable(
            f"{variable}: {file} cannot be read ({error.strerror or error}): mount it, or unset {variable}"
        ) from error
    except UnicodeDecodeError as error:
        raise SecretFileUnusable(f"{variable}: {file} holds no text") from error
    if not value or len(content) > _LARGEST_BYTES or "\n" in value or "\0" in value:
        raise SecretFileUnusable(f"{variable}: {file} is to hold one line, the value of the setting")
    return value


def webhook_token() -> str:
    """VISIONOPS_WEBHOOK_TOKEN, or the token of this home, which only its owner may read."""
    from resources.settings import given

    token = given(WEBHOOK_TOKEN).strip()
    if token:
        return token
    file = home.home() / "webhook-token"
    with contextlib.suppress(FileNotFoundError):
        return file.read_text().strip()
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(32))
        # Of two processes that make one at once, both use the first.
        with contextlib.suppress(FileExistsError):
            os.link(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return file.read_text().strip()


def give_token_to_actions() -> None:
    """Let a lakeFS server that this process starts know the token."""
    os.environ.setdefault(LAKEFS_ACTION_TOKEN, webhook_token())
