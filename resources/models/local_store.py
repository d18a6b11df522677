"""MLflow's local store in other places than it was made for: in a folder that was moved or copied its addresses are
rewritten, and one that this user may only read is asked through a copy that follows it.
"""

import atexit
import contextlib
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

if TYPE_CHECKING:
    from mlflow import MlflowClient


# Every column that holds an address of artifacts.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
ARTIFACTS = "artifacts"
_log = logging.getLogger("visionops.home")
# What a change of the store changes: the database, and the log of what is not in it yet.
_WRITTEN = ("", "-wal")
_copies: set[str] = set()


def follow_folder(database: Path, folder: Path | None = None, *, say: bool = True) -> list[Path]:
    """Rewrite what names the artifacts beside a former place of `database`; returns those places, and says so once.

    `folder` is where the artifacts lie, by default beside the database.

    Nothing is rewritten while the former place is a name of this folder, as a link to it is. One transaction, so a
    kill leaves all or none.

    Raises `sqlite3.Error`.
    """
    here = folder or database.absolute().parent
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        former = [place for place in _places(connection, here) if not _is_here(place, here)]
        for place in former:
            rewritten = sum(_rewrite(connection, table, column, place, here) for table, column in ADDRESSES)
            if say:
                _log.warning(
                    "%s was moved or copied from %s: %d addresses of artifacts in %s name this folder now",
                    *(here, place, rewritten, database.name),
                )
    return former


def _places(connection: sqlite3.Connection, here: Path) -> list[Path]:
    """The folders beside which experiments keep their artifacts in the way that this store does.

    An experiment that a person sent elsewhere stays there: its files do not lie here, and its folder is not called as
    this one.
    """
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return []
    places = set()
    for (location,) in connection.execute("SELECT artifact_location FROM experiments"):
        folder = _folder(location)
        if folder is None or folder.parent.name != ARTIFACTS:
            continue
        place = folder.parent.parent
        if place.name == here.name or (here / ARTIFACTS / folder.name).is_dir():
            places.add(place)
    return sorted(places)


def _folder(location: str | None) -> Path | None:
    parts = urlparse(location or "")
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.path else None


def _is_here(place: Path, here: Path) -> bool:
    try:
        return place.samefile(here)
    except OSError:
        return False


def _rewrite(connection: sqlite3.Connection, table: str, column: str, place: Path, here: Path) -> int:
    old, new = (f"{(folder / ARTIFACTS).as_uri()}/" for folder in (place, here))
    changed = connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
        (new, len(old) + 1, len(old), old),
    )
    return changed.rowcount


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
