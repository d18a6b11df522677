"""Staging: changes of a branch that are not committed yet. A tombstone (no record) hides a committed object.

What is staged lies in layers: a commit whose hooks run seals the layers so far, and later writes go on top.
The newest layer of a path counts.
"""

from collections.abc import Iterator

from lakefs_local.catalog.branches import Branch
from lakefs_local.catalog.names import after_prefix
from lakefs_local.storage import tree
from lakefs_local.storage.database import Session
from lakefs_local.storage.tree import Change, Difference


def find(session: Session, branch: Branch, path: bytes) -> tuple[bytes | None] | None:
    """The staged record of a path as a tuple of one (None in it: a tombstone), or None if nothing is staged."""
    row: tuple[bytes | None] | None = session.one(
        "SELECT record FROM staging WHERE branch = ? AND path = ? ORDER BY layer DESC LIMIT 1",
        branch.id,
        path,
    )
    return row


def changes(
    session: Session, branch: Branch, start: bytes = b"", *, after: bool = False, sealed: int | None = None
) -> Iterator[Change]:
    """Staged changes in order of path, from `start` on (`after`: not that path itself), or only sealed ones."""
    previous = None
    for path, record in session.rows(
        f"SELECT path, record FROM staging WHERE branch = ? AND path {'>' if after else '>='} ? AND layer <= ? "
        "ORDER BY path, layer DESC",
        *(branch.id, start, branch.layer if sealed is None else sealed),
    ):
        if path != previous:
            yield path, record
        previous = path


def is_empty(session: Session, branch: Branch) -> bool:
    """Whether nothing at all is staged."""
    return session.one("SELECT 1 FROM staging WHERE branch = ? LIMIT 1", branch.id) is None


def is_clean(session: Session, branch: Branch, root: bytes | None) -> bool:
    """Whether nothing is staged but tombstones for what is not committed; the same bytes again are not clean."""
    return all(
        record is None and tree.get(session.nodes, root, path) is None
        for path, record in changes(session, branch)
    )


def put(session: Session, branch: Branch, path: bytes, record: bytes | None) -> None:
    """Stage a record, or a tombstone."""
    session.run("INSERT OR REPLACE INTO staging VALUES (?, ?, ?, ?)", branch.id, path, branch.layer, record)


def drop(session: Session, branch: Branch, path: bytes) -> None:
    """Forget what is staged under one path."""
    session.run("DELETE FROM staging WHERE branch = ? AND path = ?", branch.id, path)


def drop_prefix(session: Session, branch: Branch, prefix: bytes) -> None:
    """Forget what is staged under every path with a prefix; the empty one: everything."""
    upper = after_prefix(prefix)
    if upper is None:
        session.run("DELETE FROM staging WHERE branch = ? AND path >= ?", branch.id, prefix)
    else:
        session.run(
            "DELETE FROM staging WHERE branch = ? AND path >= ? AND path < ?", branch.id, prefix, upper
        )


def drop_sealed(session: Session, branch: Branch, sealed: int) -> None:
    """Forget the layers that a commit has taken."""
    session.run("DELETE FROM staging WHERE branch = ? AND layer <= ?", branch.id, sealed)


def diff(session: Session, branch: Branch, root: bytes | None, start: bytes = b"") -> Iterator[Difference]:
    """What is staged beside what is committed, in order of path, from `start` on; both may be the same object."""
    for path, record in changes(session, branch, start):
        yield Difference(path, tree.get(session.nodes, root, path), record)
