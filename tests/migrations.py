"""Alembic's migrations without reading all of them anew for each database of Dagster and MLflow that is opened."""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def keep() -> None:
    """Read each folder of migrations once in this process, if Alembic is imported by now."""
    base = sys.modules.get("alembic.script.base")
    if base is None or hasattr(base.ScriptDirectory.__init__, "__wrapped__"):
        return
    initialise = base.ScriptDirectory.__init__
    known: dict[tuple[Path, ...], Any] = {}

    @functools.wraps(initialise)
    def initialise_with_known(directory: Any, *arguments: object, **options: object) -> None:
        initialise(directory, *arguments, **options)
        folders: Sequence[Path] = directory._version_locations
        directory.revision_map = known.setdefault(tuple(folders), directory.revision_map)

    base.ScriptDirectory.__init__ = initialise_with_known
