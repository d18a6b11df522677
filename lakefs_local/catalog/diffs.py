"""What changed: differences of two references and of what is staged, what a merge of one into the other would
bring, and the log of a reference, by date, filtered by what commits touched.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import merge as merge_sorted
from typing import NamedTuple

from lakefs_local.catalog import commits, conventions, merge, refs, repositories
from lakefs_local.catalog import objects as staging
from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.conventions import CatalogError, Page, Paging, cut_page, prefixed
from lakefs_local.catalog.repositories import Repository
from lakefs_local.storage import encoding, tree
from lakefs_local.storage.database import Session
from lakefs_local.storage.tree import Difference

Side = tuple[bytes | None, repositories.Branch | None]


class Changed(NamedTuple):
    """`kind` is added, removed, changed or conflict; `size` that of the object there now, or before it went, which is
    not known of what is removed and not committed: 0."""

    kind: str
    size: int


def diff_uncommitted(
    session: Session, repository: Repository, branch_name: str, paging: Paging
) -> Page[conventions.Listed[Changed]]:
    """What is staged on a branch. Raises NotFound."""
    branch = repositories.get_branch(session, repository.id, branch_name)
    root = commits.get(session, repository.id, branch.head).root
    return conventions.page_of_paths(
        lambda start: _staged(staging.diff_staged(session, branch, root, start)), paging
    )


def diff_two_dot(
    session: Session, repository: Repository, left: str, right: str, paging: Paging
) -> Page[conventions.Listed[Changed]]:
    """From one reference to another; `branch$` is the branch with what is staged on it. Raises NotFound, Invalid."""
    a, b = (_side(session, repository, reference) for reference in (left, right))

    def differences(start: bytes) -> Iterator[Difference]:
        if a[1] is None and b[1] is None:
            return tree.diff(session.nodes, a[0], b[0], start)
        return _with_staging(session, a, b, start)

    return conventions.page_of_paths(lambda start: _changed(differences(start)), paging)


def diff_three_dot(
    session: Session, repository: Repository, left: str, right: str, paging: Paging
) -> Page[conventions.Listed[Changed]]:
    """What merging `right` into `left` would change there, conflicts included. Raises NotFound, Invalid."""
    left_id, right_id = (_commit_named(session, repository, reference) for reference in (left, right))
    changes = merge_changes(session, repository, left_id, right_id)
    return conventions.page_of_paths(lambda start: _merged(changes(start)), paging)


def merge_changes(
    session: Session, repository: Repository, destination: bytes, source: bytes
) -> Callable[[bytes], Iterator[merge.Change]]:
    """The changes from a path on that merging commit `source` into commit `destination` would make."""
    base = commits.merge_base(session, repository.id, destination, source).root
    ours = commits.get(session, repository.id, destination).root
    theirs = commits.get(session, repository.id, source).root
    return lambda start: diff_three_way(session, base, ours, theirs, start)


def diff_three_way(
    session: Session, base: bytes | None, destination: bytes | None, source: bytes | None, start: bytes = b""
) -> Iterator[merge.Change]:
    """The changes that applying `base` → `source` on top of `destination` makes; all are roots of trees."""
    nodes = session.nodes
    return merge.compare(
        tree.diff(nodes, base, source, start),
        tree.diff(nodes, base, destination, start),
        encoding.same_object,
    )


def touches(
    session: Session, left: bytes | None, right: bytes | None, paths: list[str], prefixes: list[str]
) -> bool:
    """Whether two trees differ on one of the paths, or below one of the prefixes."""
    for path in paths:
        key = path.encode()
        if not encoding.same_object(tree.get(session.nodes, left, key), tree.get(session.nodes, right, key)):
            return True
    for prefix in prefixes:
        key = prefix.encode()
        for difference in tree.diff(session.nodes, left, right, key):
            if not difference.key.startswith(key):
                break
            if not encoding.same_object(difference.left, difference.right):
                return True
    return False


def _side(session: Session, repository: Repository, reference: str) -> Side:
    try:
        resolved = refs.resolve(session, repository.id, reference)
    except CatalogError as problem:
        raise prefixed(f"get commit by ref {reference}: ", problem) from None
    root = commits.get(session, repository.id, resolved.commit).root
    return root, resolved.branch if resolved.staging_only else None


def _commit_named(session: Session, repository: Repository, reference: str) -> bytes:
    try:
        return refs.resolve_commit(session, repository.id, reference)
    except CatalogError as problem:
        raise prefixed(f"get commit by ref {reference}: ", problem) from None


def _with_staging(session: Session, left: Side, right: Side, start: bytes) -> Iterator[Difference]:
    """Both trees' differences with each side's staged changes laid over them."""
    runs = [tree.diff(session.nodes, left[0], right[0], start)]
    for _, branch in (left, right):
        if branch is not None:
            runs.append(
                Difference(path, None, None) for path, _ in staging.staged_changes(session, branch, start)
            )
    previous = None
    for key in _sorted_keys(runs):
        if key != previous:
            yield Difference(key, _shown_record(session, left, key), _shown_record(session, right, key))
        previous = key


def _sorted_keys(runs: list[Iterator[Difference]]) -> Iterator[bytes]:
    return merge_sorted(*((difference.key for difference in run) for run in runs))


def _shown_record(session: Session, side: Side, key: bytes) -> bytes | None:
    root, branch = side
    staged = staging.find_staged(session, branch, key) if branch else None
    return staged[0] if staged else tree.get(session.nodes, root, key)


def _changed(differences: Iterator[Difference]) -> Iterator[tuple[bytes, Changed]]:
    for key, left, right in differences:
        if not encoding.same_object(left, right):
            yield key, _change(left, right)


def _staged(differences: Iterator[Difference]) -> Iterator[tuple[bytes, Changed]]:
    # As in lakeFS, whose tombstones have no size.
    for key, change in _changed(differences):
        yield key, change._replace(size=0) if change.kind == "removed" else change


def _merged(changes: Iterator[merge.Change]) -> Iterator[tuple[bytes, Changed]]:
    for change in changes:
        if change.conflict:
            yield (
                change.key,
                Changed("conflict", encoding.size_of(change.source or change.destination or b"")),
            )
        else:
            yield change.key, _change(change.destination, change.source)


def _change(left: bytes | None, right: bytes | None) -> Changed:
    """What leads from one record to another, of which at least one is there."""
    if right is None:
        return Changed("removed", encoding.size_of(left or b""))
    return Changed("added" if left is None else "changed", encoding.size_of(right))


@dataclass(frozen=True, slots=True)
class LogFilter:
    """`since` in whole seconds ends the log at older commits, `stop_at` (a reference) after that commit.

    `objects` and `prefixes` keep commits of one parent that changed one of them; `limit` says that no more than a
    page is wanted, so that none is announced.
    """

    first_parent: bool = False
    since: float | None = None
    stop_at: str = ""
    objects: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    limit: bool = False


def log_of(
    session: Session, repository: Repository, reference: str, paging: Paging, chosen: LogFilter
) -> Page[Commit]:
    """Commits reachable from a reference, newest first; the offset is a commit id. Raises NotFound, Invalid."""
    try:
        start = refs.resolve_commit(session, repository.id, reference)
        stop = refs.resolve_commit(session, repository.id, chosen.stop_at) if chosen.stop_at else None
    except CatalogError as problem:
        raise prefixed("ref: ", problem) from None
    found: list[Commit] = []
    for commit in _after_offset(
        commits.walk(session, repository.id, start, first_parent=chosen.first_parent), paging.after
    ):
        if chosen.since is not None and commit.seconds < chosen.since:
            break
        if _is_wanted(session, repository, commit, chosen):
            found.append(commit)
        if commit.id == stop or len(found) > paging.amount or (chosen.limit and len(found) == paging.amount):
            break
    return cut_page(found, paging.amount, lambda commit: commit.id.hex())


def _after_offset(history: Iterator[Commit], offset: str) -> Iterator[Commit]:
    if offset:
        for commit in history:
            if commit.id.hex() == offset:
                break
    return history


def _is_wanted(session: Session, repository: Repository, commit: Commit, chosen: LogFilter) -> bool:
    if not chosen.objects and not chosen.prefixes:
        return True
    if len(commit.parents) != 1:
        return False
    parent = commits.get(session, repository.id, commit.parents[0])
    return touches(session, parent.root, commit.root, chosen.objects, chosen.prefixes)
