"""Commits: immutable, named by a hash of what they say, walked by date."""

import hashlib
import heapq
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lakefs_local.catalog.conventions import NotFound
from lakefs_local.storage.database import Session

_COLUMNS = "id, parents, generation, created, committer, message, metadata, root"
_ID_SIZE = 32
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Commit:
    """`created` is in microseconds since the epoch; `root` is None only in a repository's first commit."""

    id: bytes
    parents: tuple[bytes, ...]
    generation: int
    created: int
    committer: str
    message: str
    metadata: dict[str, str]
    root: bytes | None

    @property
    def seconds(self) -> int:
        """When it was made, in whole seconds."""
        return self.created // _SECOND


def draft(
    parents: tuple[bytes, ...],
    generation: int,
    root: bytes | None,
    committer: str,
    message: str,
    metadata: dict[str, str],
    seconds: int | None = None,
) -> Commit:
    """A commit that is not stored yet, with its id. `generation` is the highest of its parents'."""
    created = time.time_ns() // 1000 if seconds is None else seconds * _SECOND
    commit = Commit(b"", parents, generation + 1, created, committer, message, metadata, root)
    return replace(commit, id=identify(commit))


def identify(commit: Commit) -> bytes:
    """The id of a commit: the SHA-256 of what it says."""
    said = [
        [parent.hex() for parent in commit.parents],
        *(commit.generation, commit.created, commit.committer, commit.message),
        *(sorted(commit.metadata.items()), commit.root.hex() if commit.root else None),
    ]
    text = json.dumps(said, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def add(session: Session, repository_id: int, commit: Commit) -> Commit:
    """Store a commit; one that says the same at the same time is the same commit."""
    session.run(
        f"INSERT OR IGNORE INTO commits (repository, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(repository_id, commit.id, b"".join(commit.parents), commit.generation, commit.created),
        *(commit.committer, commit.message, json.dumps(commit.metadata), commit.root),
    )
    return commit


def get(session: Session, repository_id: int, commit_id: bytes) -> Commit:
    """Raises NotFound."""
    row = session.one(
        f"SELECT {_COLUMNS} FROM commits WHERE repository = ? AND id = ?", repository_id, commit_id
    )
    if row is None:
        raise NotFound("commit not found")
    return _of_row(row)


def find_prefix(session: Session, repository_id: int, prefix: str) -> bytes | None:
    """The id of the one commit whose id starts with these hex digits, or None."""
    low, high = (bytes.fromhex(prefix.ljust(2 * _ID_SIZE, fill)) for fill in "0f")
    found = session.rows(
        "SELECT id FROM commits WHERE repository = ? AND id BETWEEN ? AND ? LIMIT 2", repository_id, low, high
    ).fetchall()
    return found[0][0] if len(found) == 1 else None


def walk(
    session: Session, repository_id: int, start: bytes, *, first_parent: bool = False
) -> Iterator[Commit]:
    """History from `start` on, the newest known commit first; parents never come before their children."""
    heap: list[tuple[int, bytes, Commit]] = []
    seen = {start}
    pending = [start]
    while pending or heap:
        for commit_id in pending:
            commit = get(session, repository_id, commit_id)
            heapq.heappush(heap, (-commit.created, commit_id, commit))
        commit = heapq.heappop(heap)[2]
        yield commit
        parents = commit.parents[:1] if first_parent else commit.parents
        pending = [parent for parent in parents if parent not in seen]
        seen.update(pending)


def merge_base(session: Session, repository_id: int, left: bytes, right: bytes) -> Commit:
    """The nearest common ancestor: of those, one of the highest generation. Every repository has a first commit."""
    heap: list[tuple[int, bytes]] = []
    sides: dict[bytes, int] = {}

    def reach(commit_id: bytes, side: int) -> None:
        if commit_id not in sides:
            generation = get(session, repository_id, commit_id).generation
            heapq.heappush(heap, (-generation, commit_id))
        sides[commit_id] = sides.get(commit_id, 0) | side

    reach(left, 1)
    reach(right, 2)
    while heap:
        # By generation, so that every child that could still mark a commit has been seen before it is judged.
        _, commit_id = heapq.heappop(heap)
        commit = get(session, repository_id, commit_id)
        if sides[commit_id] == 3:
            return commit
        for parent in commit.parents:
            reach(parent, sides[commit_id])
    raise NotFound("no common ancestor")


def _of_row(row: tuple[Any, ...]) -> Commit:
    joined: bytes = row[1]
    parents = tuple(joined[at : at + _ID_SIZE] for at in range(0, len(joined), _ID_SIZE))
    return Commit(row[0], parents, row[2], row[3], row[4], row[5], json.loads(row[6]), row[7])
