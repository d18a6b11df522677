"""Objects: what a reference shows, with what is staged laid over what is committed."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from lakefs_local.catalog import branches, commits, listing, refs, staging
from lakefs_local.catalog.branches import Branch
from lakefs_local.catalog.errors import NotFound, PreconditionFailed
from lakefs_local.catalog.names import check_path
from lakefs_local.catalog.paging import Page, Paging
from lakefs_local.catalog.repositories import Repository
from lakefs_local.storage import records, tree
from lakefs_local.storage.database import Session
from lakefs_local.storage.records import Entry


def find(session: Session, repository: Repository, reference: str, path: str) -> bytes:
    """The record of the object a reference shows at a path. Raises NotFound, Invalid."""
    key = check_path(path)
    resolved = refs.resolve(session, repository.id, reference)
    record = None
    staged = staging.find(session, resolved.branch, key) if resolved.branch else None
    if staged:
        record = staged[0]
    else:
        root = commits.get(session, repository.id, resolved.commit).root
        record = tree.get(session.nodes, root, key)
    if record is None:
        raise NotFound("not found")
    return record


def page(
    session: Session, repository: Repository, reference: str, paging: Paging
) -> Page[listing.Listed[bytes]]:
    """Objects and common prefixes by path. Raises NotFound, Invalid."""
    resolved = refs.resolve(session, repository.id, reference)
    root = commits.get(session, repository.id, resolved.commit).root
    branch = resolved.branch
    if branch is None or staging.is_empty(session, branch):
        return listing.page(lambda start: tree.scan(session.nodes, root, start), paging)
    return listing.page(lambda start: _overlaid(session, root, branch, start), paging)


def put(
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
    if only_if_new and _shown(session, repository, branch, key) is not None:
        raise PreconditionFailed("path already exists")
    record = records.pack(entry)
    staging.put(session, branch, key, record)
    return record


def check_put(session: Session, repository: Repository, branch_name: str, path: str) -> None:
    """Raise what `put` would raise, before the bytes are taken in."""
    check_path(path)
    check_branch(session, repository, branch_name)


def check_branch(session: Session, repository: Repository, branch_name: str) -> None:
    """Raise what `put_many` would raise of the branch, before the bytes are taken in."""
    _branch_to_write(session, repository, branch_name)


def put_many(
    session: Session, repository: Repository, branch_name: str, entries: Iterable[tuple[str, Entry]]
) -> None:
    """Stage objects, (path, entry) each. Raises NotFound, Forbidden, Invalid."""
    branch = _branch_to_write(session, repository, branch_name)
    for path, entry in entries:
        staging.put(session, branch, check_path(path), records.pack(entry))


def delete(session: Session, repository: Repository, branch_name: str, paths: list[str]) -> None:
    """Stage the deletion of objects; absent ones are no error. Raises NotFound, Forbidden, Invalid."""
    branches.check_writable(repository, branch_name)
    branch = branches.get(session, repository.id, branch_name)
    root = commits.get(session, repository.id, branch.head).root
    for path in paths:
        key = check_path(path)
        # A sealed layer may hold the path and be committed by the time this counts, hence the tombstone there.
        if branch.layer or tree.get(session.nodes, root, key) is not None:
            staging.put(session, branch, key, None)
        else:
            staging.drop(session, branch, key)


def copy(
    session: Session, repository: Repository, branch_name: str, path: str, source: str, source_path: str
) -> bytes:
    """Stage under `path` what `source` shows at `source_path`, sharing its bytes. Raises NotFound, Forbidden."""
    entry = records.unpack(find(session, repository, source, source_path))
    return put(session, repository, branch_name, path, replace(entry, mtime=int(time.time())))


def set_metadata(
    session: Session, repository: Repository, branch_name: str, path: str, metadata: dict[str, str]
) -> None:
    """Stage an object with other user metadata. Raises NotFound, Forbidden."""
    entry = records.unpack(find(session, repository, branch_name, path))
    put(session, repository, branch_name, path, replace(entry, metadata=metadata))


def _branch_to_write(session: Session, repository: Repository, name: str) -> Branch:
    branches.check_writable(repository, name)
    branch = branches.find(session, repository.id, name)
    if branch is None:
        raise NotFound(f"branch '{name}' not found")
    return branch


def _shown(session: Session, repository: Repository, branch: Branch, key: bytes) -> bytes | None:
    staged = staging.find(session, branch, key)
    if staged:
        return staged[0]
    return tree.get(session.nodes, commits.get(session, repository.id, branch.head).root, key)


def _overlaid(
    session: Session, root: bytes | None, branch: Branch, start: bytes
) -> Iterator[tuple[bytes, bytes]]:
    changes = staging.changes(session, branch, start)
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
