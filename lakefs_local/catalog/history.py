"""The log of a reference: by date, filtered by what commits touched."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lakefs_local.catalog import commits, diffs, refs
from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.errors import CatalogError, prefixed
from lakefs_local.catalog.paging import Page, Paging, cut
from lakefs_local.catalog.repositories import Repository
from lakefs_local.storage.database import Session


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


def log(
    session: Session, repository: Repository, reference: str, paging: Paging, chosen: LogFilter
) -> Page[Commit]:
    """Commits reachable from a reference, newest first; the offset is a commit id. Raises NotFound, Invalid."""
    try:
        start = refs.resolve_commit(session, repository.id, reference)
        stop = refs.resolve_commit(session, repository.id, chosen.stop_at) if chosen.stop_at else None
    except CatalogError as problem:
        raise prefixed("ref: ", problem) from None
    found: list[Commit] = []
    for commit in _after(
        commits.walk(session, repository.id, start, first_parent=chosen.first_parent), paging.after
    ):
        if chosen.since is not None and commit.seconds < chosen.since:
            break
        if _wanted(session, repository, commit, chosen):
            found.append(commit)
        if commit.id == stop or len(found) > paging.amount or (chosen.limit and len(found) == paging.amount):
            break
    return cut(found, paging.amount, lambda commit: commit.id.hex())


def _after(history: Iterator[Commit], offset: str) -> Iterator[Commit]:
    if offset:
        for commit in history:
            if commit.id.hex() == offset:
                break
    return history


def _wanted(session: Session, repository: Repository, commit: Commit, chosen: LogFilter) -> bool:
    if not chosen.objects and not chosen.prefixes:
        return True
    if len(commit.parents) != 1:
        return False
    parent = commits.get(session, repository.id, commit.parents[0])
    return diffs.touches(session, parent.root, commit.root, chosen.objects, chosen.prefixes)
