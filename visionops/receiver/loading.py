"""The code location as the project files are now: a receiver runs for weeks, and recipes change meanwhile."""

import contextlib
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resources import home
from resources.lakefs.client import LakeFSResource
from resources.lakefs_errors import LakeFSError
from visionops_assets.project import Project
from visionops_assets.training.training_version import training_version

if TYPE_CHECKING:
    import dagster as dg

_Seen = tuple[tuple[str, int, int], ...]


class CodeLocation:
    """`definitions`, loaded when it is needed and again when a project file changed."""

    def __init__(self) -> None:
        self._seen: _Seen | None = None

    def load(self) -> "tuple[dg.Definitions, Sequence[Project]]":
        """Definitions and the projects whose files can be used."""
        import definitions

        seen = _project_files()
        if self._seen is not None and seen != self._seen:
            importlib.reload(definitions)
        self._seen = seen
        return definitions.defs, definitions.projects


def warm_up(lakefs: LakeFSResource, projects: Sequence[Project]) -> None:
    """Import and read what the first look needs, so that it takes no longer than the others."""
    with contextlib.suppress(LakeFSError):
        lakefs.version()
    for project in projects:
        training_version(project)


def _project_files() -> _Seen:
    folder = home.projects_folder()
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
