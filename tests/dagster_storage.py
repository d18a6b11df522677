"""Dagster's own work in a test, without what a test has no use for.

Its SQLite storage makes an engine and a connection for every statement and goes through all migrations for every run,
and four processes a step copy what the step prints: together more than the steps of a small project.
"""

import functools
import os
import tempfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

# What steps print stays where pytest captures it.
QUIET = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}
# Each run has a database of its own, and each open one three files.
_OPEN = 16
_engines: OrderedDict[str, sqlalchemy.Engine] = OrderedDict()
_initialise = sqlite_event_log.SqliteEventLogStorage._initdb


@functools.cache
def keep_connections() -> None:
    """Make Dagster's SQLite storages of this process keep engines and connections, and copy new databases."""
    for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        module.create_engine = _kept  # type: ignore[attr-defined]
    sqlite_event_log.SqliteEventLogStorage._initdb = _initialise_by_copy  # type: ignore[method-assign, assignment]


def close_connections(folder: Path) -> None:
    """Close those to databases below a folder, before it is copied or removed."""
    for address in [one for one in _engines if one.startswith(f"sqlite:///{folder}/")]:
        _close(_engines.pop(address))


def _kept(
    address: str, poolclass: object = None, connect_args: dict[str, Any] | None = None
) -> sqlalchemy.Engine:
    """The engine of a database; Dagster's wish for connections that close at once is passed over."""
    if address not in _engines:
        engine = sqlalchemy.create_engine(address, connect_args=connect_args or {})
        # Dagster disposes of the engine after every statement.
        engine.dispose = lambda close=True: None  # type: ignore[method-assign]
        _engines[address] = engine
    _engines.move_to_end(address)
    while len(_engines) > _OPEN:
        _close(_engines.popitem(last=False)[1])
    return _engines[address]


def _close(engine: sqlalchemy.Engine) -> None:
    sqlalchemy.Engine.dispose(engine)


def _initialise_by_copy(
    storage: sqlite_event_log.SqliteEventLogStorage, engine: sqlalchemy.Engine, for_index_shard: bool = False
) -> None:
    """A new event log is a copy of an empty one."""
    path = Path(str(engine.url.database))
    if not path.exists():
        own = path.with_name(f"{path.name}.{os.getpid()}")
        own.write_bytes(_empty_event_log())
        # Another process may have begun with it.
        with suppress(FileExistsError):
            path.hardlink_to(own)
        own.unlink()
    with engine.connect() as connection:
        tables = set(connection.scalars(sqlalchemy.text("SELECT name FROM sqlite_master")))
    if "alembic_version" not in tables:
        _initialise(storage, engine, for_index_shard)


@functools.cache
def _empty_event_log() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        storage = object.__new__(sqlite_event_log.SqliteEventLogStorage)
        engine = sqlalchemy.create_engine(f"sqlite:///{path}")
        _initialise(storage, engine)
        engine.dispose()
        return path.read_bytes()
