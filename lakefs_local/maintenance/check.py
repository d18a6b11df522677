"""Checking a data folder: that every reference, commit, tree and blob is there and says what its name says.

Reads only, and may run beside a server.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lakefs_local.catalog import commits
from lakefs_local.catalog.errors import NotFound
from lakefs_local.folder import DataFolder
from lakefs_local.maintenance.reach import live_commits, staged_records
from lakefs_local.storage import nodes, records, tree
from lakefs_local.storage.blobs import Blobs, checksum
from lakefs_local.storage.database import Session


def check(folder: DataFolder) -> Iterator[str]:
    """What is wrong, one line each. Raises FolderError if the folder cannot be read at all."""
    folder.check_format()
    connection = sqlite3.connect(f"{folder.database.as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("BEGIN")
        yield from _Check(Session(connection, nodes.NodeCache()), folder.path).run()
    except sqlite3.DatabaseError as problem:
        yield f"database: {problem}"
    finally:
        connection.close()


class _Check:
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
                commit = commits.get(self._session, repository_id, commit_id)
            except NotFound:
                yield f"commit {commit_id.hex()} is missing"
                continue
            if commits.identify(commit) != commit_id:
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
        if nodes.digest(row[0]) != node_id:
            yield f"node {node_id.hex()} does not have the content its id says"
            return
        node = nodes.decode(row[0])
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
        entry = records.unpack(record)
        if entry.blob is None:
            if entry.location not in self._seen_files:
                self._seen_files.add(entry.location)
                yield from _file(Path(entry.location), entry.size, what)
            return
        if entry.blob in self._seen_blobs:
            return
        self._seen_blobs.add(entry.blob)
        path = Path(self._blobs.path(entry.blob))
        problems = list(_file(path, entry.size, what))
        if not problems and checksum(path) != entry.blob:
            problems.append(f"{what}: {path} does not have the checksum its name says")
        yield from problems


def _file(path: Path, size: int, what: str) -> Iterator[str]:
    try:
        found = path.stat().st_size
    except OSError as problem:
        yield f"{what}: {path}: {problem.strerror}"
        return
    if found != size:
        yield f"{what}: {path} has {found} bytes, not {size}"
