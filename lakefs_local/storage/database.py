"""The SQLite database: its tables, its connections, and one writer that commits in groups.

Readers open short snapshots (WAL: they never wait for the writer). All writing goes through one thread, which runs
what is queued in one transaction, each piece within its own savepoint, and acknowledges after the fsync.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from lakefs_local.storage.encoding import NodeCache, Nodes, store_nodes

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE nodes (id BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE repositories (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, namespace TEXT NOT NULL, default_branch TEXT NOT NULL,
    read_only INTEGER NOT NULL, created INTEGER NOT NULL, metadata TEXT NOT NULL, protection TEXT NOT NULL);
CREATE TABLE namespaces (namespace TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE branches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, repository INTEGER NOT NULL, name TEXT NOT NULL, head BLOB NOT NULL,
    hidden INTEGER NOT NULL, layer INTEGER NOT NULL DEFAULT 0, UNIQUE (repository, name));
CREATE TABLE tags (
    repository INTEGER NOT NULL, name TEXT NOT NULL, target BLOB NOT NULL,
    PRIMARY KEY (repository, name)) WITHOUT ROWID;
CREATE TABLE commits (
    repository INTEGER NOT NULL, id BLOB NOT NULL, parents BLOB NOT NULL, generation INTEGER NOT NULL,
    created INTEGER NOT NULL, committer TEXT NOT NULL, message TEXT NOT NULL, metadata TEXT NOT NULL, root BLOB,
    PRIMARY KEY (repository, id)) WITHOUT ROWID;
CREATE TABLE staging (
    branch INTEGER NOT NULL, path BLOB NOT NULL, layer INTEGER NOT NULL, record BLOB,
    PRIMARY KEY (branch, path, layer)) WITHOUT ROWID;
CREATE TABLE imports (
    id TEXT PRIMARY KEY, repository INTEGER NOT NULL, branch TEXT NOT NULL, state TEXT NOT NULL,
    ingested INTEGER NOT NULL, updated INTEGER NOT NULL, error TEXT NOT NULL, commit_id BLOB) WITHOUT ROWID;
CREATE TABLE runs (
    repository INTEGER NOT NULL, id TEXT NOT NULL, branch TEXT NOT NULL, event TEXT NOT NULL, source TEXT NOT NULL,
    commit_id TEXT NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL, passed INTEGER NOT NULL,
    PRIMARY KEY (repository, id)) WITHOUT ROWID;
CREATE TABLE hook_runs (
    repository INTEGER NOT NULL, run TEXT NOT NULL, id TEXT NOT NULL, action TEXT NOT NULL, hook TEXT NOT NULL,
    started INTEGER NOT NULL, ended INTEGER NOT NULL, status TEXT NOT NULL, output TEXT NOT NULL,
    PRIMARY KEY (repository, run, id)) WITHOUT ROWID;
"""

_PAGE_SIZE = 8192
_GROUP = 64


class Session:
    """What catalog code works on: a connection inside a transaction, and the nodes read and written through it."""

    def __init__(self, connection: sqlite3.Connection, cache: NodeCache):
        self.connection = connection
        self.nodes = Nodes(connection, cache)

    def one(self, sql: str, *values: Any) -> Any:
        """The first row, or None."""
        return self.connection.execute(sql, values).fetchone()

    def rows(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """The rows, as they are read."""
        return self.connection.execute(sql, values)

    def run(self, sql: str, *values: Any) -> int:
        """Execute a change; how many rows it touched."""
        return self.connection.execute(sql, values).rowcount


class BufferedNodes(Nodes):
    """Nodes whose writing goes through the writer, in groups."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        cache: NodeCache,
        write: Callable[[Callable[[Session], None]], None],
        flush_at: int,
    ):
        super().__init__(connection, cache)
        self._write, self._flush_at = write, flush_at
        self._pending: list[tuple[bytes, bytes]] = []

    def flush(self) -> None:
        """Write what is pending; durable on return."""
        batch, self._pending = self._pending, []
        self._write(lambda session: store_nodes(session.connection, batch))

    def _store(self, node_id: bytes, data: bytes) -> None:
        self._pending.append((node_id, data))
        if len(self._pending) >= self._flush_at:
            self.flush()


class Database:
    """Opens the database file, creating its tables on first use."""

    def __init__(self, path: Path):
        self._path = path
        self._cache = NodeCache()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._queue: queue.SimpleQueue[tuple[Callable[[Session], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._create()
        self._thread = threading.Thread(target=self._write_forever, name="writer", daemon=True)
        self._thread.start()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent snapshot. Nested in the same thread it is the outer one."""
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = Session(self._connect(), self._cache)
        if session.connection.in_transaction:
            yield session
            return
        session.connection.execute("BEGIN")
        try:
            yield session
        finally:
            session.connection.execute("COMMIT")

    @contextmanager
    def detached_nodes(self, flush_at: int) -> Iterator[Nodes]:
        """Nodes read as they are stored now, and written in groups of `flush_at` before anything refers to them.

        For work too long for one transaction; all are durable when the context ends.
        """
        connection = self._connect()
        try:
            nodes = BufferedNodes(connection, self._cache, lambda batch: self.write(batch).result(), flush_at)
            yield nodes
            nodes.flush()
        finally:
            self._connections.remove(connection)
            connection.close()

    def write(self, change: Callable[[Session], T]) -> "Future[T]":
        """Queue a change. The future resolves once it is durable, or with what the change raised."""
        future: Future[T] = Future()
        self._queue.put((change, future))
        return future

    def close(self) -> None:
        """Finish what is queued and close every connection."""
        self._queue.put(None)
        self._thread.join()
        for connection in self._connections:
            with suppress(sqlite3.Error):
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=30, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        # FULL makes each commit of the write-ahead log an fsync: an acknowledged write survives a power cut.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-16000", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        self._connections.append(connection)
        return connection

    def _create(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size={_PAGE_SIZE}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in _SCHEMA.split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            connection.close()

    def _write_forever(self) -> None:
        session = Session(self._connect(), self._cache)
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while len(batch) < _GROUP:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            closing = None in batch
            self._write_group(session, [item for item in batch if item is not None])

    def _write_group(
        self, session: Session, group: list[tuple[Callable[[Session], Any], Future[Any]]]
    ) -> None:
        connection = session.connection
        done: list[tuple[Future[Any], Any]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for change, future in group:
                if not future.set_running_or_notify_cancel():
                    continue
                connection.execute("SAVEPOINT piece")
                try:
                    result = change(session)
                except BaseException as problem:
                    if not connection.in_transaction:
                        raise
                    connection.execute("ROLLBACK TO piece")
                    connection.execute("RELEASE piece")
                    future.set_exception(problem)
                    continue
                connection.execute("RELEASE piece")
                done.append((future, result))
            connection.execute("COMMIT")
        except BaseException as problem:
            # Disk full or the like: nothing of the group is stored, and nobody is told otherwise.
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            for _, future in group:
                if not future.done():
                    future.set_exception(problem)
            return
        for future, result in done:
            future.set_result(result)
