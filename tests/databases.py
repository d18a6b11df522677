"""The databases that this process opens by SQLAlchemy: they wait for no disk, and are closed with their folder.

MLflow keeps an engine, and each engine its connections, of every database that was ever opened: five files a test.
"""

import functools
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event

_engines: WeakSet[Engine] = WeakSet()


@functools.cache
def watch() -> None:
    """Do so from now on. What a test of this process writes need not survive a power cut; its children wait."""
    event.listen(Engine, "connect", _unsynchronised)
    event.listen(Engine, "engine_connect", _known)


def close_below(folder: Path) -> None:
    """Close what is open of databases below a folder; they are opened again where somebody asks."""
    for engine in list(_engines):
        if Path(engine.url.database or "/").is_relative_to(folder):
            # Where `tests/dagster_storage.py` keeps an engine, its own `dispose` does nothing.
            Engine.dispose(engine)


def _unsynchronised(connection: Any, _: object) -> None:
    # What is no database is for the code under test to find out.
    with suppress(sqlite3.DatabaseError):
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")


def _known(connection: Connection) -> None:
    _engines.add(connection.engine)
