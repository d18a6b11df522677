"""Tags: names that stay on a commit. They share one namespace with branches."""

from dataclasses import dataclass

from lakefs_local.catalog import branches, names
from lakefs_local.catalog.errors import Conflict, NotFound, NotUnique
from lakefs_local.catalog.paging import Page, Paging, page_of_names
from lakefs_local.catalog.repositories import Repository
from lakefs_local.storage.database import Session


@dataclass(frozen=True, slots=True)
class Tag:
    """`target` is a commit id."""

    name: str
    target: bytes


def get(session: Session, repository: Repository, name: str) -> Tag:
    """Raises NotFound."""
    row = session.one("SELECT name, target FROM tags WHERE repository = ? AND name = ?", repository.id, name)
    if row is None:
        raise NotFound("tag not found")
    return Tag(*row)


def create(session: Session, repository: Repository, name: str, target: bytes) -> Tag:
    """Raises Invalid, NotUnique, or Conflict if a branch has the name."""
    names.check_tag(name)
    if session.one("SELECT 1 FROM tags WHERE repository = ? AND name = ?", repository.id, name):
        raise NotUnique("tag already exists: not unique")
    if branches.find(session, repository.id, name):
        raise Conflict(f"branch ID {name}: conflict found")
    session.run("INSERT INTO tags VALUES (?, ?, ?)", repository.id, name, target)
    return Tag(name, target)


def delete(session: Session, repository: Repository, name: str) -> None:
    """Raises NotFound."""
    if not session.run("DELETE FROM tags WHERE repository = ? AND name = ?", repository.id, name):
        raise NotFound("tag not found")


def listing(session: Session, repository: Repository, paging: Paging) -> Page[Tag]:
    """Tags by name."""
    select = "SELECT name, target FROM tags WHERE repository = ? AND "
    return page_of_names(session, select, (repository.id,), paging, lambda row: Tag(*row), "name")
