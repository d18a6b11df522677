"""Settings that stand in files, as containers are given secrets: `NAME_FILE` names the file with the value of `NAME`.

Of a mounted secret neither `docker inspect` nor the listing of processes tells anything.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

SUFFIX = "_FILE"
# Besides all of VisionOps' own.
OTHERS = (
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


class SecretFileUnusable(RuntimeError):
    """A file that is to hold a setting cannot be used; the message names the variable and the file, never the value."""


def read_secret_files(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set each variable whose value stands in a file, without the line end at its end. Again is as good as once.

    Raises `SecretFileUnusable`.
    """
    for variable in [name for name in environment if name.endswith(SUFFIX)]:
        name, file = variable.removesuffix(SUFFIX), environment[variable]
        if not file or not (name in OTHERS or (name.startswith(_OURS) and name != _OURS)):
            continue
        value = _read(variable, Path(file))
        # A process that was started by one that read it has both.
        if environment.get(name, value) not in ("", value):
            raise SecretFileUnusable(
                f"{name} and {variable} are both set, to different values: unset one of them"
            )
        environment[name] = value


def _read(variable: str, file: Path) -> str:
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
