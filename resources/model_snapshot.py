"""An MLflow store that this user may only read, as on a disk that is mounted so: asked through a copy that follows it.

SQLite would lay files beside the database, and MLflow, and whoever opens it first, write into it.
"""

import atexit
import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.model_addresses import follow_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What a change of the store changes: the database, and the log of what is not in it yet.
_WRITTEN = ("", "-wal")
_copies: set[str] = set()


def may_only_be_read(database: Path) -> bool:
    """Whether there is a database, and this user may not write it or beside it."""
    return database.exists() and not (os.access(database, os.W_OK) and os.access(database.parent, os.W_OK))


@lru_cache(maxsize=8)
def snapshot(database: Path) -> "Snapshot":
    """The copy of a database, one a process."""
    return Snapshot(database)


class Snapshot:
    """A copy among the temporary files, which nobody can write to; gone when the process ends."""

    def __init__(self, database: Path) -> None:
        self._database = database
        folder = tempfile.mkdtemp(prefix="visionops-mlflow-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._copy = Path(folder, "mlflow.db").resolve()
        self._copying = threading.Lock()
        self._seen: list[tuple[int, int] | None] = []
        self._client: MlflowClient | None = None

    def client(self) -> "MlflowClient":
        """A client of what the store holds now. Raises what MLflow and SQLite raise, and OSError."""
        with self._copying:
            self._follow()
            if self._client is None:
                self._client = _open(self._copy)
            return self._client

    def _follow(self) -> None:
        seen = [_state(Path(f"{self._database}{suffix}")) for suffix in _WRITTEN]
        if seen == self._seen:
            return
        readable, copy = self._readable(), sqlite3.connect(self._copy)
        with contextlib.closing(readable) as source, contextlib.closing(copy) as target:
            source.backup(target)
        follow_folder(self._copy, self._database.absolute().parent, say=not self._seen)
        self._seen = seen

    def _readable(self) -> sqlite3.Connection:
        """The store as it is, where somebody writes it; else a copy of what lies there, which SQLite would not open."""
        connection = sqlite3.connect(f"{self._database.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("SELECT 1 FROM sqlite_master")
            return connection
        except sqlite3.OperationalError:
            connection.close()
        lying = self._copy.with_name("lying.db")
        for suffix in _WRITTEN:
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{self._database}{suffix}", f"{lying}{suffix}")
        return sqlite3.connect(lying)


def _open(copy: Path) -> "MlflowClient":
    from mlflow import MlflowClient
    from sqlalchemy import Engine, event

    _copies.add(str(copy))
    if not event.contains(Engine, "connect", _only_read):
        event.listen(Engine, "connect", _only_read)
    client = MlflowClient(tracking_uri=f"sqlite:///{copy}", registry_uri=f"sqlite:///{copy}")
    client.search_experiments(max_results=1)
    return client


def _only_read(connection: Any, _: object) -> None:
    """What was written to a copy would be lost: it is refused, as by the store itself."""
    if isinstance(connection, sqlite3.Connection):
        with contextlib.suppress(sqlite3.DatabaseError):
            if connection.execute("PRAGMA database_list").fetchone()[2] in _copies:
                connection.execute("PRAGMA query_only=ON")


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size
