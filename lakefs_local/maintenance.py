"""Keeping a data folder in order: collecting what no reference reaches, and checking that every reference, commit,
tree and blob is there and says what its name says. A check only reads, and may run beside a server.

A collection is decided in one transaction of the writer, which holds up other changes while it lasts.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lakefs_local.catalog import commits as catalog_commits
from lakefs_local.catalog.conventions import NotFound
from lakefs_local.data_folder import DataFolder
from lakefs_local.storage import encoding, tree
from lakefs_local.storage.blobs import Blobs, checksum
from lakefs_local.storage.database import Session
from lakefs_local.store import Gate, Store

_WAIT_SECONDS = 60.0


def live_commits(session: Session, repository_id: int) -> set[bytes]:
    """The ids of all commits that a branch or tag of a repository reaches."""
    heads = session.rows(
        "SELECT head FROM branches WHERE repository = ? UNION SELECT target FROM tags WHERE repository = ?",
        *(repository_id, repository_id),
    )
    pending = [head for (head,) in heads]
    live: set[bytes] = set()
    while pending:
        commit_id = pending.pop()
        if commit_id in live:
            continue
        live.add(commit_id)
        row = session.one(
            "SELECT parents FROM commits WHERE repository = ? AND id = ?", repository_id, commit_id
        )
        if row:
            pending += [row[0][at : at + 32] for at in range(0, len(row[0]), 32)]
    return live


def roots(session: Session) -> Iterator[bytes]:
    """The roots of all commits' trees."""
    for (root,) in session.rows("SELECT DISTINCT root FROM commits WHERE root IS NOT NULL"):
        yield root


def staged_records(session: Session) -> Iterator[bytes]:
    """The records of all staged objects."""
    for (record,) in session.rows("SELECT record FROM staging WHERE record IS NOT NULL"):
        yield record


class Marks:
    """Collects what trees and staging need. `files` are locations outside the blob store."""

    def __init__(self, session: Session):
        self._session = session
        self.nodes: set[bytes] = set()
        self.blobs: set[bytes] = set()
        self.files: set[str] = set()

    def add_record(self, record: bytes) -> None:
        """Note what an object's bytes need."""
        blob = encoding.blob_of(record)
        if blob is not None:
            self.blobs.add(blob)
        else:
            self.files.add(encoding.unpack_record(record).location)

    def add_tree(self, root: bytes) -> None:
        """Note every node and record of a tree; what another tree shares is visited once. Raises MissingNode."""
        pending = [root]
        while pending:
            node_id = pending.pop()
            if node_id in self.nodes:
                continue
            self.nodes.add(node_id)
            level, _, values = self._session.nodes.get(node_id)
            if level:
                pending += values
            else:
                for record in values:
                    self.add_record(record)


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


def check_data(folder: DataFolder) -> Iterator[str]:
    """What is wrong, one line each. Raises FolderError if the folder cannot be read at all."""
    folder.check_format()
    connection = sqlite3.connect(f"{folder.database.as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("BEGIN")
        yield from _DataCheck(Session(connection, encoding.NodeCache()), folder.path).run()
    except sqlite3.DatabaseError as problem:
        yield f"database: {problem}"
    finally:
        connection.close()


class _DataCheck:
    def __init__(self, session: Session, folder: Path):
        self._session = session
        self._blobs = Blobs(folder)
        self._seen_nodes: set[tuple[bytes, bool]] = set()
        self._seen_blobs: set[bytes] = set()
        self._seen_files: set[str] = set()

    def run(self) -> Iterator[str]:
        for (line,) in self._session.rows("PRAGMA integrity_check"):
            if line != "ok":
                yield f"database: {line}"
        for number, name in self._session.rows("SELECT id, name FROM repositories").fetchall():
            for line in self._repository(number):
                yield f"repository {name}: {line}"
        for record in staged_records(self._session):
            yield from self._record(record, "staged object")

    def _repository(self, repository_id: int) -> Iterator[str]:
        for commit_id in sorted(live_commits(self._session, repository_id)):
            try:
                commit = catalog_commits.get(self._session, repository_id, commit_id)
            except NotFound:
                yield f"commit {commit_id.hex()} is missing"
                continue
            if catalog_commits.identify(commit) != commit_id:
                yield f"commit {commit_id.hex()} does not say what its id says"
            if commit.root is not None:
                for line in self._node(commit.root, None, edge=True):
                    yield f"commit {commit_id.hex()}: {line}"

    def _node(self, node_id: bytes, expected_level: int | None, *, edge: bool) -> Iterator[str]:
        """Check a node and what lies below it; `edge`: on the right edge, where no key need close it."""
        if (node_id, edge) in self._seen_nodes:
            return
        self._seen_nodes.add((node_id, edge))
        row = self._session.one("SELECT data FROM nodes WHERE id = ?", node_id)
        if row is None:
            yield f"node {node_id.hex()} is missing"
            return
        if encoding.digest_of_node(row[0]) != node_id:
            yield f"node {node_id.hex()} does not have the content its id says"
            return
        node = encoding.decode_node(row[0])
        if expected_level is not None and node.level != expected_level:
            yield f"node {node_id.hex()} is of level {node.level}, not {expected_level}"
        if any(low >= high for low, high in zip(node.keys, node.keys[1:], strict=False)):
            yield f"node {node_id.hex()} is not sorted"
        ends = [tree.height(key) > node.level for key in node.keys]
        if any(ends[:-1]) or (not edge and not ends[-1]):
            yield f"node {node_id.hex()} does not end where its keys say"
        for place, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            if node.level == 0:
                yield from self._record(value, f"object {key.decode(errors='replace')!r}")
            else:
                yield from self._node(value, node.level - 1, edge=edge and place == len(node.keys) - 1)

    def _record(self, record: bytes, what: str) -> Iterator[str]:
        entry = encoding.unpack_record(record)
        if entry.blob is None:
            if entry.location not in self._seen_files:
                self._seen_files.add(entry.location)
                yield from _check_file(Path(entry.location), entry.size, what)
            return
        if entry.blob in self._seen_blobs:
            return
        self._seen_blobs.add(entry.blob)
        path = Path(self._blobs.path(entry.blob))
        problems = list(_check_file(path, entry.size, what))
        if not problems and checksum(path) != entry.blob:
            problems.append(f"{what}: {path} does not have the checksum its name says")
        yield from problems


def _check_file(path: Path, size: int, what: str) -> Iterator[str]:
    try:
        found = path.stat().st_size
    except OSError as problem:
        yield f"{what}: {path}: {problem.strerror}"
        return
    if found != size:
        yield f"{what}: {path} has {found} bytes, not {size}"
