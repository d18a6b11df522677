"""Differences: of a branch's staging, of two references, and what a merge of one into the other would bring."""

from collections.abc import Callable, Iterator
from heapq import merge as merge_sorted
from typing import NamedTuple

from lakefs_local.catalog import branches, commits, listing, merge, refs, staging
from lakefs_local.catalog.errors import CatalogError, prefixed
from lakefs_local.catalog.paging import Page, Paging
from lakefs_local.catalog.repositories import Repository
from lakefs_local.storage import records, tree
from lakefs_local.storage.database import Session
from lakefs_local.storage.tree import Difference


class Changed(NamedTuple):
    """`kind` is added, removed, changed or conflict; `size` that of the object there now, or before it went, which is
    not known of what is removed and not committed: 0."""

    kind: str
    size: int


def uncommitted(
    session: Session, repository: Repository, branch_name: str, paging: Paging
) -> Page[listing.Listed[Changed]]:
    """What is staged on a branch. Raises NotFound."""
    branch = branches.get(session, repository.id, branch_name)
    root = commits.get(session, repository.id, branch.head).root
    return listing.page(lambda start: _staged(staging.diff(session, branch, root, start)), paging)


def two_dot(
    session: Session, repository: Repository, left: str, right: str, paging: Paging
) -> Page[listing.Listed[Changed]]:
    """From one reference to another; `branch$` is the branch with what is staged on it. Raises NotFound, Invalid."""
    a, b = (_side(session, repository, reference) for reference in (left, right))

    def differences(start: bytes) -> Iterator[Difference]:
        if a[1] is None and b[1] is None:
            return tree.diff(session.nodes, a[0], b[0], start)
        return _with_staging(session, a, b, start)

    return listing.page(lambda start: _changed(differences(start)), paging)


def three_dot(
    session: Session, repository: Repository, left: str, right: str, paging: Paging
) -> Page[listing.Listed[Changed]]:
    """What merging `right` into `left` would change there, conflicts included. Raises NotFound, Invalid."""
    left_id, right_id = (_commit(session, repository, reference) for reference in (left, right))
    changes = merge_changes(session, repository, left_id, right_id)
    return listing.page(lambda start: _merged(changes(start)), paging)


def merge_changes(
    session: Session, repository: Repository, destination: bytes, source: bytes
) -> Callable[[bytes], Iterator[merge.Change]]:
    """The changes from a path on that merging commit `source` into commit `destination` would make."""
    base = commits.merge_base(session, repository.id, destination, source).root
    ours = commits.get(session, repository.id, destination).root
    theirs = commits.get(session, repository.id, source).root
    return lambda start: three_way(session, base, ours, theirs, start)


def three_way(
    session: Session, base: bytes | None, destination: bytes | None, source: bytes | None, start: bytes = b""
) -> Iterator[merge.Change]:
    """The changes that applying `base` → `source` on top of `destination` makes; all are roots of trees."""
    nodes = session.nodes
    return merge.compare(
        tree.diff(nodes, base, source, start), tree.diff(nodes, base, destination, start), records.same
    )


def touches(
    session: Session, left: bytes | None, right: bytes | None, paths: list[str], prefixes: list[str]
) -> bool:
    """Whether two trees differ on one of the paths, or below one of the prefixes."""
    for path in paths:
        key = path.encode()
        if not records.same(tree.get(session.nodes, left, key), tree.get(session.nodes, right, key)):
            return True
    for prefix in prefixes:
        key = prefix.encode()
        for difference in tree.diff(session.nodes, left, right, key):
            if not difference.key.startswith(key):
                break
            if not records.same(difference.left, difference.right):
                return True
    return False


Side = tuple[bytes | None, branches.Branch | None]


def _side(session: Session, repository: Repository, reference: str) -> Side:
    try:
        resolved = refs.resolve(session, repository.id, reference)
    except CatalogError as problem:
        raise prefixed(f"get commit by ref {reference}: ", problem) from None
    root = commits.get(session, repository.id, resolved.commit).root
    return root, resolved.branch if resolved.staging_only else None


def _commit(session: Session, repository: Repository, reference: str) -> bytes:
    try:
        return refs.resolve_commit(session, repository.id, reference)
    except CatalogError as problem:
        raise prefixed(f"get commit by ref {reference}: ", problem) from None


def _with_staging(session: Session, left: Side, right: Side, start: bytes) -> Iterator[Difference]:
    """Both trees' differences with each side's staged changes laid over them."""
    runs = [tree.diff(session.nodes, left[0], right[0], start)]
    for _, branch in (left, right):
        if branch is not None:
            runs.append(Difference(path, None, None) for path, _ in staging.changes(session, branch, start))
    previous = None
    for key in _sorted_keys(runs):
        if key != previous:
            yield Difference(key, _shown(session, left, key), _shown(session, right, key))
        previous = key


def _sorted_keys(runs: list[Iterator[Difference]]) -> Iterator[bytes]:
    return merge_sorted(*((difference.key for difference in run) for run in runs))


def _shown(session: Session, side: Side, key: bytes) -> bytes | None:
    root, branch = side
    staged = staging.find(session, branch, key) if branch else None
    return staged[0] if staged else tree.get(session.nodes, root, key)


def _changed(differences: Iterator[Difference]) -> Iterator[tuple[bytes, Changed]]:
    for key, left, right in differences:
        if not records.same(left, right):
            yield key, _change(left, right)


def _staged(differences: Iterator[Difference]) -> Iterator[tuple[bytes, Changed]]:
    # As in lakeFS, whose tombstones have no size.
    for key, change in _changed(differences):
        yield key, change._replace(size=0) if change.kind == "removed" else change


def _merged(changes: Iterator[merge.Change]) -> Iterator[tuple[bytes, Changed]]:
    for change in changes:
        if change.conflict:
            yield change.key, Changed("conflict", records.size_of(change.source or change.destination or b""))
        else:
            yield change.key, _change(change.destination, change.source)


def _change(left: bytes | None, right: bytes | None) -> Changed:
    """What leads from one record to another, of which at least one is there."""
    if right is None:
        return Changed("removed", records.size_of(left or b""))
    return Changed("added" if left is None else "changed", records.size_of(right))
