"""Branches: a name, a head, and what is staged on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lakefs_local.catalog import names
from lakefs_local.catalog.errors import Conflict, Forbidden, NotFound, NotUnique
from lakefs_local.catalog.paging import Page, Paging, page_of_names
from lakefs_local.storage.database import Session

if TYPE_CHECKING:
    from lakefs_local.catalog.repositories import Protection, Repository


@dataclass(frozen=True, slots=True)
class Branch:
    """`layer` counts how often what was staged has been sealed for a commit whose hooks were running."""

    id: int
    name: str
    head: bytes
    layer: int


def find(session: Session, repository_id: int, name: str) -> Branch | None:
    """The branch, or None."""
    row = session.one(
        "SELECT id, name, head, layer FROM branches WHERE repository = ? AND name = ?", repository_id, name
    )
    return Branch(*row) if row else None


def get(session: Session, repository_id: int, name: str) -> Branch:
    """Raises NotFound."""
    branch = find(session, repository_id, name)
    if branch is None:
        raise NotFound("branch not found")
    return branch


def create(session: Session, repository: "Repository", name: str, head: bytes, *, hidden: bool) -> None:
    """Raises Invalid, NotUnique, or Conflict if a tag has the name."""
    names.check_branch(name)
    if find(session, repository.id, name):
        raise NotUnique("branch already exists: not unique")
    if session.one("SELECT 1 FROM tags WHERE repository = ? AND name = ?", repository.id, name):
        raise Conflict(f"tag ID {name}: conflict found")
    insert(session, repository.id, name, head, hidden=hidden)


def insert(session: Session, repository_id: int, name: str, head: bytes, *, hidden: bool) -> None:
    """Add a branch whose name is known to be free."""
    session.run(
        "INSERT INTO branches (repository, name, head, hidden) VALUES (?, ?, ?, ?)",
        repository_id,
        name,
        head,
        hidden,
    )


def delete(session: Session, repository: "Repository", name: str) -> None:
    """Delete a branch and what is staged on it. Raises NotFound, Forbidden for the default branch."""
    if name == repository.default_branch:
        raise Forbidden("cannot delete repository default branch")
    branch = get(session, repository.id, name)
    session.run("DELETE FROM staging WHERE branch = ?", branch.id)
    session.run("DELETE FROM branches WHERE id = ?", branch.id)


def move(session: Session, branch: Branch, head: bytes) -> None:
    """Point a branch at another commit."""
    session.run("UPDATE branches SET head = ? WHERE id = ?", head, branch.id)


def seal(session: Session, branch: Branch) -> int:
    """Close what is staged for a commit in preparation; writes from now on stay out of it. The sealed layer."""
    session.run("UPDATE branches SET layer = layer + 1 WHERE id = ?", branch.id)
    return branch.layer


def listing(session: Session, repository: "Repository", paging: Paging, *, hidden: bool) -> Page[Branch]:
    """Branches by name, hidden ones only if asked for."""
    shown = "" if hidden else "hidden = 0 AND "
    select = f"SELECT id, name, head, layer FROM branches WHERE repository = ? AND {shown}"
    return page_of_names(session, select, (repository.id,), paging, lambda row: Branch(*row), "name")


def check_writable(repository: "Repository", name: str) -> None:
    """Raises Forbidden if the branch is protected from writing too: it takes merges only."""
    if any(rule.from_writing for rule in _rules(repository, name)):
        raise Forbidden("cannot write to protected branch")


def check_committable(repository: "Repository", name: str) -> None:
    """Raises Forbidden if the branch is protected."""
    if any(_rules(repository, name)):
        raise Forbidden("cannot commit to protected branch")


def _rules(repository: "Repository", name: str) -> "Iterator[Protection]":
    return (rule for rule in repository.protection if fnmatchcase(name, rule.pattern))
