"""Objects: what a reference shows, with what is staged laid over what is committed.

Staging holds changes of a branch that are not committed yet; a tombstone (no record) hides a committed object. It
lies in layers: what a commit whose hooks run takes is sealed, and what is written meanwhile stays out of it.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from lakefs_local.catalog import commits, conventions, refs, repositories
from lakefs_local.catalog.conventions import (
    NotFound,
    Page,
    Paging,
    PreconditionFailed,
    after_prefix,
    check_path,
)
from lakefs_local.catalog.repositories import Branch, Repository
from lakefs_local.storage import encoding, tree
from lakefs_local.storage.database import Session
from lakefs_local.storage.encoding import Entry
from lakefs_local.storage.tree import Change, Difference


def find_object(session: Session, repository: Repository, reference: str, path: str) -> bytes:
    """The record of the object a reference shows at a path. Raises NotFound, Invalid."""
    key = check_path(path)
    resolved = refs.resolve(session, repository.id, reference)
    record = None
    staged = find_staged(session, resolved.branch, key) if resolved.branch else None
    if staged:
        record = staged[0]
    else:
        root = commits.get(session, repository.id, resolved.commit).root
        record = tree.get(session.nodes, root, key)
    if record is None:
        raise NotFound("not found")
    return record


def page_of_objects(
    session: Session, repository: Repository, reference: str, paging: Paging
) -> Page[conventions.Listed[bytes]]:
    """Objects and common prefixes by path. Raises NotFound, Invalid."""
    resolved = refs.resolve(session, repository.id, reference)
    root = commits.get(session, repository.id, resolved.commit).root
    branch = resolved.branch
    if branch is None or nothing_is_staged(session, branch):
        return conventions.page_of_paths(lambda start: tree.scan(session.nodes, root, start), paging)
    return conventions.page_of_paths(lambda start: _overlaid(session, root, branch, start), paging)


def put_object(
    session: Session,
    repository: Repository,
    branch_name: str,
    path: str,
    entry: Entry,
    *,
    only_if_new: bool = False,
) -> bytes:
    """Stage an object and return its record. Raises NotFound, Forbidden, or PreconditionFailed if it exists."""
    key = check_path(path)
    branch = _branch_to_write(session, repository, branch_name)
    if only_if_new and _shown_object(session, repository, branch, key) is not None:
        raise PreconditionFailed("path already exists")
    record = encoding.pack_entry(entry)
    stage(session, branch, key, record)
    return record


def check_put_object(session: Session, repository: Repository, branch_name: str, path: str) -> None:
    """Raise what `put` would raise, before the bytes are taken in."""
    check_path(path)
    check_branch_to_write(session, repository, branch_name)


def check_branch_to_write(session: Session, repository: Repository, branch_name: str) -> None:
    """Raise what `put_many` would raise of the branch, before the bytes are taken in."""
    _branch_to_write(session, repository, branch_name)


def put_objects(
    session: Session, repository: Repository, branch_name: str, entries: Iterable[tuple[str, Entry]]
) -> None:
    """Stage objects, (path, entry) each. Raises NotFound, Forbidden, Invalid."""
    branch = _branch_to_write(session, repository, branch_name)
    for path, entry in entries:
        stage(session, branch, check_path(path), encoding.pack_entry(entry))


def delete_objects(session: Session, repository: Repository, branch_name: str, paths: list[str]) -> None:
    """Stage the deletion of objects; absent ones are no error. Raises NotFound, Forbidden, Invalid."""
    repositories.check_writable(repository, branch_name)
    branch = repositories.get_branch(session, repository.id, branch_name)
    root = commits.get(session, repository.id, branch.head).root
    for path in paths:
        key = check_path(path)
        # A sealed layer may hold the path and be committed by the time this counts, hence the tombstone there.
        if branch.layer or tree.get(session.nodes, root, key) is not None:
            stage(session, branch, key, None)
        else:
            unstage(session, branch, key)


def copy_object(
    session: Session, repository: Repository, branch_name: str, path: str, source: str, source_path: str
) -> bytes:
    """Stage under `path` what `source` shows at `source_path`, sharing its bytes. Raises NotFound, Forbidden."""
    entry = encoding.unpack_record(find_object(session, repository, source, source_path))
    return put_object(session, repository, branch_name, path, replace(entry, mtime=int(time.time())))


def set_object_metadata(
    session: Session, repository: Repository, branch_name: str, path: str, metadata: dict[str, str]
) -> None:
    """Stage an object with other user metadata. Raises NotFound, Forbidden."""
    entry = encoding.unpack_record(find_object(session, repository, branch_name, path))
    put_object(session, repository, branch_name, path, replace(entry, metadata=metadata))


def _branch_to_write(session: Session, repository: Repository, name: str) -> Branch:
    repositories.check_writable(repository, name)
    branch = repositories.find_branch(session, repository.id, name)
    if branch is None:
        raise NotFound(f"branch '{name}' not found")
    return branch


def _shown_object(session: Session, repository: Repository, branch: Branch, key: bytes) -> bytes | None:
    staged = find_staged(session, branch, key)
    if staged:
        return staged[0]
    return tree.get(session.nodes, commits.get(session, repository.id, branch.head).root, key)


def _overlaid(
    session: Session, root: bytes | None, branch: Branch, start: bytes
) -> Iterator[tuple[bytes, bytes]]:
    changes = staged_changes(session, branch, start)
    change = next(changes, None)
    for path, record in tree.scan(session.nodes, root, start):
        while change is not None and change[0] < path:
            if change[1] is not None:
                yield change[0], change[1]
            change = next(changes, None)
        if change is not None and change[0] == path:
            if change[1] is not None:
                yield path, change[1]
            change = next(changes, None)
        else:
            yield path, record
    while change is not None:
        if change[1] is not None:
            yield change[0], change[1]
        change = next(changes, None)


def find_staged(session: Session, branch: Branch, path: bytes) -> tuple[bytes | None] | None:
    """The staged record of a path as a tuple of one (None in it: a tombstone), or None if nothing is staged."""
    row: tuple[bytes | None] | None = session.one(
        "SELECT record FROM staging WHERE branch = ? AND path = ? ORDER BY layer DESC LIMIT 1",
        branch.id,
        path,
    )
    return row


def staged_changes(
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


def nothing_is_staged(session: Session, branch: Branch) -> bool:
    """Whether nothing at all is staged."""
    return session.one("SELECT 1 FROM staging WHERE branch = ? LIMIT 1", branch.id) is None


def is_clean(session: Session, branch: Branch, root: bytes | None) -> bool:
    """Whether nothing is staged but tombstones for what is not committed; the same bytes again are not clean."""
    return all(
        record is None and tree.get(session.nodes, root, path) is None
        for path, record in staged_changes(session, branch)
    )


def stage(session: Session, branch: Branch, path: bytes, record: bytes | None) -> None:
    """Stage a record, or a tombstone."""
    session.run("INSERT OR REPLACE INTO staging VALUES (?, ?, ?, ?)", branch.id, path, branch.layer, record)


def unstage(session: Session, branch: Branch, path: bytes) -> None:
    """Forget what is staged under one path."""
    session.run("DELETE FROM staging WHERE branch = ? AND path = ?", branch.id, path)


def unstage_prefix(session: Session, branch: Branch, prefix: bytes) -> None:
    """Forget what is staged under every path with a prefix; the empty one: everything."""
    upper = after_prefix(prefix)
    if upper is None:
        session.run("DELETE FROM staging WHERE branch = ? AND path >= ?", branch.id, prefix)
    else:
        session.run(
            "DELETE FROM staging WHERE branch = ? AND path >= ? AND path < ?", branch.id, prefix, upper
        )


def unstage_sealed(session: Session, branch: Branch, sealed: int) -> None:
    """Forget the layers that a commit has taken."""
    session.run("DELETE FROM staging WHERE branch = ? AND layer <= ?", branch.id, sealed)


def diff_staged(
    session: Session, branch: Branch, root: bytes | None, start: bytes = b""
) -> Iterator[Difference]:
    """What is staged beside what is committed, in order of path, from `start` on; both may be the same object."""
    for path, record in staged_changes(session, branch, start):
        yield Difference(path, tree.get(session.nodes, root, path), record)
