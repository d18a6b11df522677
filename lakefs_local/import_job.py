"""One import: walks its sources, builds the new tree beside the branch, then moves the branch in one step."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lakefs_local.catalog import commits, repositories
from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.committing import Statement
from lakefs_local.catalog.conventions import CatalogError, Conflict, NotFound, after_prefix
from lakefs_local.hooks.guarded import Guarded
from lakefs_local.import_sources import Source, SourceError, entries
from lakefs_local.storage import encoding, tree
from lakefs_local.storage.database import Session
from lakefs_local.storage.encoding import Nodes
from lakefs_local.storage.tree import Change
from lakefs_local.store import Store, new_id

_FLUSH_NODES = 512
_log = logging.getLogger("lakefs_local")


class Cancelled(Exception):
    """The import was asked to stop."""


@dataclass(frozen=True)
class Status:
    """`updated` is in nanoseconds since the epoch; `error` is empty unless it failed."""

    completed: bool
    ingested: int
    updated: int
    error: str
    commit: Commit | None


class Imports:
    """Starts imports and knows how they stand; what ended is in the database."""

    def __init__(self, store: Store, guarded: Guarded):
        self._store, self._guarded = store, guarded
        self._running: dict[str, _Job] = {}

        def fail(session: Session) -> None:
            session.run(
                "UPDATE imports SET state = 'failed', error = ? WHERE state = 'running'",
                "import error: the server stopped",
            )

        store.database.write(fail).result()

    @property
    def running(self) -> int:
        """How many imports run now."""
        return len(self._running)

    def start(
        self, repository: str, branch: str, sources: list[Source], statement: Statement, *, force: bool
    ) -> str:
        """Start an import in a thread; its id. Raises NotFound, Forbidden."""
        job = _Job(self._store, self._guarded, repository, branch, sources, statement, force)

        def register(session: Session) -> None:
            found = repositories.writable_repository(session, repository, force=force)
            repositories.check_committable(found, branch)
            repositories.get_branch(session, found.id, branch)
            session.run(
                "INSERT INTO imports VALUES (?, ?, ?, 'running', 0, ?, '', NULL)",
                *(job.id, found.id, branch, time.time_ns()),
            )

        self._store.database.write(register).result()
        self._running[job.id] = job
        threading.Thread(target=self._run, args=(job,), name="import", daemon=True).start()
        return job.id

    def status(
        self, session: Session, repository: repositories.Repository, branch: str, job_id: str
    ) -> Status:
        """Raises NotFound."""
        row = session.one(
            "SELECT state, ingested, updated, error, commit_id FROM imports "
            "WHERE id = ? AND repository = ? AND branch = ?",
            *(job_id, repository.id, branch),
        )
        if row is None:
            raise NotFound("not found")
        job = self._running.get(job_id)
        if job is not None and row[0] == "running":
            return Status(False, job.ingested, job.updated, "", None)
        made = commits.get(session, repository.id, row[4]) if row[4] else None
        return Status(row[0] == "completed", row[1], row[2], row[3], made)

    def cancel(self, session: Session, repository: repositories.Repository, branch: str, job_id: str) -> None:
        """Have an import stop. Raises NotFound, Conflict if it has ended or commits already."""
        self.status(session, repository, branch, job_id)
        job = self._running.get(job_id)
        if job is None or not job.cancel():
            raise Conflict("conflict found")

    def close(self) -> None:
        """Cancel what runs and wait for it."""
        for job in list(self._running.values()):
            job.cancel()
        while self._running:
            time.sleep(0.01)

    def _run(self, job: "_Job") -> None:
        made, error = None, ""
        try:
            made = job.run()
        except (SourceError, OSError) as problem:
            error = f"import error: error on ingest: {problem}"
        except CatalogError as problem:
            error = f"import error: merge import: {problem}"
        except Cancelled:
            error = "import error: context canceled"
        except Exception:
            _log.exception("import %s failed", job.id)
            error = "import error: see the server's log"
        state, commit_id = ("completed", made.id) if made else ("failed", None)
        try:
            self._store.database.write(
                lambda session: session.run(
                    "UPDATE imports SET state = ?, ingested = ?, updated = ?, error = ?, commit_id = ? WHERE id = ?",
                    *(state, job.ingested, time.time_ns(), error, commit_id, job.id),
                )
            ).result()
        finally:
            del self._running[job.id]


class _Job:
    def __init__(
        self,
        store: Store,
        guarded: Guarded,
        repository: str,
        branch: str,
        sources: list[Source],
        statement: Statement,
        force: bool,
    ):
        self.id = new_id()
        self.ingested = 0
        self.updated = time.time_ns()
        # Whether it is cancelled is decided once: who was answered that it is must not find it committed.
        self._decision = threading.Lock()
        self._cancelled = self._decided = False
        self._store, self._guarded = store, guarded
        self._repository, self._branch, self._force = repository, branch, force
        self._sources = sources
        self._statement = Statement(
            statement.message or "Import objects",
            {**statement.metadata, ".lakefs.merge.strategy": "source-wins"},
            statement.seconds,
        )

    def run(self) -> Commit:
        """Raises SourceError, CatalogError, Cancelled, OSError."""
        # Until the commit is made nothing refers to the new nodes: a collection would take them away.
        with self._guarded.gate.shared():
            try:
                return self._run()
            finally:
                self._decided = True

    def cancel(self) -> bool:
        """Have it stop, and whether it will."""
        with self._decision:
            if not self._decided:
                self._cancelled = True
            return not self._decided

    def _run(self) -> Commit:
        with self._store.database.detached_nodes(_FLUSH_NODES) as nodes:
            with self._store.database.read() as session:
                repository = repositories.get_repository(session, self._repository)
                head = repositories.get_branch(session, repository.id, self._branch).head
                root = commits.get(session, repository.id, head).root
            imported = entries(self._sources, self._store.may_import)
            changes = _replacing(nodes, root, self._sources, self._counted(imported))
            applied = tree.apply(nodes, root, changes, encoding.same_object)
        with self._decision:
            if self._cancelled:
                raise Cancelled
            self._decided = True
        return self._guarded.import_commit(
            self._repository, self._branch, root, applied.root, self._statement, force=self._force
        )

    def _counted(self, imported: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for item in imported:
            self.ingested += 1
            if self.ingested % 1000 == 0:
                self.updated = time.time_ns()
            if self._cancelled:
                raise Cancelled
            yield item


def _replacing(
    nodes: Nodes, root: bytes | None, sources: list[Source], imported: Iterator[tuple[bytes, bytes]]
) -> Iterator[Change]:
    """What is imported, and the deletion of what else lies under the destination prefixes, in order of path."""
    gone = _under(nodes, root, sorted({source.target for source in sources if source.is_folder}))
    old = next(gone, None)
    for key, record in imported:
        while old is not None and old < key:
            yield old, None
            old = next(gone, None)
        if old == key:
            old = next(gone, None)
        yield key, record
    while old is not None:
        yield old, None
        old = next(gone, None)


def _under(nodes: Nodes, root: bytes | None, prefixes: list[bytes]) -> Iterator[bytes]:
    start = b""
    for prefix in prefixes:
        # A prefix within the one before has been covered: it sorts right after it.
        for key, _ in tree.scan(nodes, root, max(prefix, start)):
            if not key.startswith(prefix):
                break
            yield key
        beyond = after_prefix(prefix)
        if beyond is None:
            return
        start = max(start, beyond)
