"""What every command sets up before it touches Dagster, MLflow or lakeFS."""

import os
from pathlib import Path

from resources import home


def prepare() -> Path:
    """Create the local folders, link `dagster.yaml` into DAGSTER_HOME, switch telemetry off; returns the home.

    Raises `RuntimeError` naming the folder where it cannot be written.
    """
    folder = home.home()
    dagster = home.dagster_home()
    try:
        for wanted in (folder, dagster):
            wanted.mkdir(parents=True, exist_ok=True)
        _link(home.ROOT / "dagster.yaml", dagster / "dagster.yaml")
    except OSError as error:
        raise RuntimeError(
            f"{error.filename}: {error.strerror}; set VISIONOPS_HOME to a folder that can be written"
        ) from error
    os.environ["DAGSTER_HOME"] = str(dagster)
    for name, value in {
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }.items():
        os.environ.setdefault(name, value)
    return folder


def _link(source: Path, link: Path) -> None:
    """Point `link` at `source`; a file that somebody put there stays."""
    if link.is_symlink() and link.resolve() != source:
        link.unlink()
    if not link.exists():
        link.symlink_to(source)
