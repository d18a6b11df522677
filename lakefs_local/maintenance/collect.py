"""Garbage collection: removes what no reference reaches and no upload in flight needs.

Everything is decided in one transaction of the writer, which holds up other writing for as long as it takes to
read all nodes; work that spans transactions (imports, changes with hooks) is waited for. Files are removed in a
second step, when the rows that named them are gone for good; a blob that was uploaded again meanwhile is kept.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from lakefs_local.gate import Gate
from lakefs_local.maintenance.reach import Marks, live_commits, roots, staged_records
from lakefs_local.storage.database import Session
from lakefs_local.store import Store

_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Collected:
    """How much was removed; `bytes` is the size of the removed files."""

    commits: int
    nodes: int
    blobs: int
    staged_files: int
    bytes: int

    def told(self) -> dict[str, int]:
        """As plain numbers."""
        return asdict(self)


def collect(store: Store, gate: Gate) -> Collected:
    """Collect garbage. Raises Busy, MissingNode (nothing is removed then), OSError."""
    with gate.exclusive(_WAIT_SECONDS), store.blobs.watched() as uploaded:
        commits, nodes, marks = store.database.write(_remove_rows).result()
        dead = [digest for digest, _ in store.blobs.all() if digest not in marks.blobs]
        sizes = store.database.write(
            lambda session: [
                store.blobs.remove_unless_pinned(digest) for digest in dead if digest not in uploaded
            ]
        ).result()
        removed = [size for size in sizes if size is not None]
        staged = _remove_staged(store, marks.files)
    return Collected(commits, nodes, len(removed), len(staged), sum(removed) + sum(staged))


def _remove_rows(session: Session) -> tuple[int, int, Marks]:
    commits = 0
    for (repository,) in session.rows("SELECT id FROM repositories").fetchall():
        live = live_commits(session, repository)
        stored = session.rows("SELECT id FROM commits WHERE repository = ?", repository).fetchall()
        dead = [(repository, commit_id) for (commit_id,) in stored if commit_id not in live]
        session.connection.executemany("DELETE FROM commits WHERE repository = ? AND id = ?", dead)
        commits += len(dead)
    marks = Marks(session)
    for root in list(roots(session)):
        marks.add_tree(root)
    for record in staged_records(session):
        marks.add_record(record)
    nodes = [(node_id,) for (node_id,) in session.rows("SELECT id FROM nodes") if node_id not in marks.nodes]
    session.connection.executemany("DELETE FROM nodes WHERE id = ?", nodes)
    return commits, len(nodes), marks


def _remove_staged(store: Store, needed: set[str]) -> list[int]:
    sizes = []
    for file in store.staged.expired():
        if str(file) not in needed:
            sizes.append(Path(file).stat().st_size)
            file.unlink()
    return sizes
