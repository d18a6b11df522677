"""Where what `visionops up` started can be reached."""

from dataclasses import dataclass
from pathlib import Path

from lakefs_local.discovery import Server


@dataclass(frozen=True)
class Services:
    """Addresses of what runs, and the project with history."""

    folder: Path
    project: str
    dagster: str
    mlflow: str
    lakefs: Server
