"""Where local state and project files lie, and the room kept on Dagster's disk, so that a run which fills it can still
be noted as what it is, and not as one that was killed.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resources.settings import Places

ROOT = Path(__file__).resolve().parent.parent
# Several times what a run's tags and its failure, with a traceback, take in Dagster's databases.
RESERVE_BYTES = 1 << 20
RESERVE_NAME = "reserve"
# Nobody is to run out of room because of it.
_TIMES_AS_MUCH = 16


def _set() -> "Places":
    # Whoever prints the version needs no pydantic.
    from resources.settings import Places

    return Places.read()


def _folder(variable: str, place: Path) -> Path:
    try:
        return place.expanduser().absolute()
    except RuntimeError:
        from resources.variables import SettingInvalid

        raise SettingInvalid(f"{variable} is {str(place)!r}: no user has the name after ~") from None


def home() -> Path:
    """The folder of all local state: VISIONOPS_HOME, or `.visionops` beside `definitions.py`."""
    return _folder("VISIONOPS_HOME", _set().home or ROOT / ".visionops")


def projects_folder() -> Path:
    """The folder of project files: VISIONOPS_PROJECTS, or `projects` beside `definitions.py`."""
    return _folder("VISIONOPS_PROJECTS", _set().projects or ROOT / "projects")


def dagster_home() -> Path:
    """DAGSTER_HOME where it is set, else `dagster` under `home()`."""
    return _folder("DAGSTER_HOME", _set().dagster_home or home() / "dagster")


def lakefs_data() -> Path:
    """The embedded lakeFS server's data folder."""
    return home() / "lakefs"


def artifacts() -> str:
    """Root of tables and records, a folder or S3: VISIONOPS_ARTIFACTS, or `artifacts` under `home()`."""
    return _set().artifacts or str(home() / "artifacts")


def drop() -> str:
    """Root of the drops of all projects, a folder or S3: VISIONOPS_DROP, or `drop` under `home()`."""
    return _set().drop or str(home() / "drop")


def spool() -> str:
    """Root of what production writes, a folder or S3: VISIONOPS_SPOOL, or `spool` under `home()`."""
    return _set().spool or str(home() / "spool")


def edge() -> str:
    """Root of what devices fetch, a folder or S3: VISIONOPS_EDGE, or `edge/repository` under `home()`."""
    return _set().edge or str(home() / "edge" / "repository")


def cache() -> Path:
    """Root of decoded samples and unfinished trainings; may be deleted at any time."""
    return home() / "cache"


def mlflow_folder() -> Path:
    """The folder of the local MLflow store."""
    return home() / "mlflow"


def mlflow_uri() -> str:
    """MLFLOW_TRACKING_URI, or the local sqlite store. The folder is made by whoever opens the store."""
    from resources.settings import MLflow

    return MLflow.read().tracking_uri or f"sqlite:///{mlflow_folder() / 'mlflow.db'}"


def keep_reserve(folder: Path | None = None) -> None:
    """Take the room where there is plenty. What cannot be written goes without."""
    file = _reserve_file(folder)
    if file.exists():
        return
    with suppress(OSError):
        if shutil.disk_usage(file.parent).free < _TIMES_AS_MUCH * RESERVE_BYTES:
            return
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            file.unlink()
        finally:
            os.close(descriptor)


def give_up_reserve(folder: Path | None = None) -> None:
    """Let the room be used: the disk is full."""
    with suppress(OSError):
        _reserve_file(folder).unlink(missing_ok=True)


def _reserve_file(folder: Path | None) -> Path:
    return (folder or dagster_home()) / RESERVE_NAME
