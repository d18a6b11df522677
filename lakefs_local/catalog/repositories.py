"""Repositories, made with a first commit, read-only or not, deleted with all they hold; and their branches: a name,
a head, and what is staged on it.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from lakefs_local.catalog import commits, conventions
from lakefs_local.catalog.conventions import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    NotUnique,
    Page,
    Paging,
    page_of_names,
)
from lakefs_local.storage.database import Session

_COLUMNS = "id, name, namespace, default_branch, read_only, created, metadata, protection"


class Protection(NamedTuple):
    """Branches whose name matches the pattern take no commits, and unless `from_writing` is False no uploads either."""

    pattern: str
    from_writing: bool = True


@dataclass(frozen=True, slots=True)
class Repository:
    """`created` is in whole seconds."""

    id: int
    name: str
    namespace: str
    default_branch: str
    read_only: bool
    created: int
    metadata: dict[str, str]
    protection: tuple[Protection, ...]


def get_repository(session: Session, name: str) -> Repository:
    """Raises NotFound."""
    row = session.one(f"SELECT {_COLUMNS} FROM repositories WHERE name = ?", name)
    if row is None:
        raise NotFound("repository not found")
    return _repository_of_row(row)


def writable_repository(session: Session, name: str, *, force: bool = False) -> Repository:
    """The repository, if it may be changed. Raises NotFound, Forbidden if it is read-only (`force` overrides)."""
    repository = get_repository(session, name)
    if repository.read_only and not force:
        raise Forbidden("read-only repository")
    return repository


def create_repository(
    session: Session,
    name: str,
    namespace: str,
    default_branch: str,
    *,
    read_only: bool,
    metadata: dict[str, str],
    bare: bool = False,
) -> Repository:
    """Make a repository with its first commit; a bare one has neither commit nor branch, and may share a namespace.

    Raises Invalid, NotUnique.
    """
    conventions.check_branch(default_branch)
    check_new_repository(session, name)
    if not namespace.startswith("local://"):
        raise Invalid(
            f"failed to create repository: storage namespace '{namespace}' is not of the kind this server stores, "
            "local://<name>: invalid storage type"
        )
    # As in lakeFS, a namespace stays taken when its repository is deleted: the objects are still there.
    if not bare and session.one("SELECT 1 FROM namespaces WHERE namespace = ?", namespace.rstrip("/")):
        raise Invalid(
            f"failed to create repository: found lakeFS objects in the storage (:{namespace}) "
            "key(_lakefs/dummy): storage namespace already in use"
        )
    session.run("INSERT OR IGNORE INTO namespaces VALUES (?)", namespace.rstrip("/"))
    session.run(
        "INSERT INTO repositories (name, namespace, default_branch, read_only, created, metadata, protection) "
        "VALUES (?, ?, ?, ?, ?, ?, '[]')",
        *(name, namespace, default_branch, read_only, int(time.time()), json.dumps(metadata)),
    )
    repository = get_repository(session, name)
    if bare:
        return repository
    first = commits.add(session, repository.id, commits.draft((), 0, None, "", "Repository created", {}))
    insert_branch(session, repository.id, default_branch, first.id, hidden=False)
    return repository


def check_new_repository(session: Session, name: str) -> None:
    """Raises NotUnique if there is a repository of that name."""
    if session.one("SELECT 1 FROM repositories WHERE name = ?", name):
        raise NotUnique("error creating repository: not unique")


def delete_repository(session: Session, name: str, *, force: bool = False) -> None:
    """Delete a repository with its branches, tags, commits and staging. Raises NotFound, Forbidden."""
    repository = writable_repository(session, name, force=force)
    session.run(
        "DELETE FROM staging WHERE branch IN (SELECT id FROM branches WHERE repository = ?)", repository.id
    )
    for table in ("branches", "tags", "commits", "imports", "runs", "hook_runs"):
        session.run(f"DELETE FROM {table} WHERE repository = ?", repository.id)
    session.run("DELETE FROM repositories WHERE id = ?", repository.id)


def page_of_repositories(session: Session, paging: Paging) -> Page[Repository]:
    """Repositories by name."""
    return page_of_names(
        session, f"SELECT {_COLUMNS} FROM repositories WHERE ", (), paging, _repository_of_row, "name"
    )


def set_repository_metadata(session: Session, repository: Repository, metadata: dict[str, str]) -> None:
    """Add to a repository's metadata; keys that are there are replaced."""
    _store_repository_metadata(session, repository, repository.metadata | metadata)


def delete_repository_metadata(session: Session, repository: Repository, keys: list[str]) -> None:
    """Remove keys from a repository's metadata; absent ones are no error."""
    _store_repository_metadata(
        session, repository, {k: v for k, v in repository.metadata.items() if k not in keys}
    )


def set_protection(session: Session, repository: Repository, rules: Sequence[Protection]) -> None:
    """Replace the rules of protected branches."""
    stored = [rule.pattern if rule.from_writing else {"commits": rule.pattern} for rule in rules]
    session.run("UPDATE repositories SET protection = ? WHERE id = ?", json.dumps(stored), repository.id)


def _store_repository_metadata(session: Session, repository: Repository, metadata: dict[str, str]) -> None:
    session.run("UPDATE repositories SET metadata = ? WHERE id = ?", json.dumps(metadata), repository.id)


def _repository_of_row(row: tuple[Any, ...]) -> Repository:
    number, name, namespace, default_branch, read_only, created, metadata, protection = row
    rules = tuple(
        Protection(rule) if isinstance(rule, str) else Protection(rule["commits"], from_writing=False)
        for rule in json.loads(protection)
    )
    return Repository(
        number, name, namespace, default_branch, bool(read_only), created, json.loads(metadata), rules
    )


@dataclass(frozen=True, slots=True)
class Branch:
    """`layer` counts how often what was staged has been sealed for a commit whose hooks were running."""

    id: int
    name: str
    head: bytes
    layer: int


def find_branch(session: Session, repository_id: int, name: str) -> Branch | None:
    """The branch, or None."""
    row = session.one(
        "SELECT id, name, head, layer FROM branches WHERE repository = ? AND name = ?", repository_id, name
    )
    return Branch(*row) if row else None


def get_branch(session: Session, repository_id: int, name: str) -> Branch:
    """Raises NotFound."""
    branch = find_branch(session, repository_id, name)
    if branch is None:
        raise NotFound("branch not found")
    return branch


def create_branch(
    session: Session, repository: "Repository", name: str, head: bytes, *, hidden: bool
) -> None:
    """Raises Invalid, NotUnique, or Conflict if a tag has the name."""
    conventions.check_branch(name)
    if find_branch(session, repository.id, name):
        raise NotUnique("branch already exists: not unique")
    if session.one("SELECT 1 FROM tags WHERE repository = ? AND name = ?", repository.id, name):
        raise Conflict(f"tag ID {name}: conflict found")
    insert_branch(session, repository.id, name, head, hidden=hidden)


def insert_branch(session: Session, repository_id: int, name: str, head: bytes, *, hidden: bool) -> None:
    """Add a branch whose name is known to be free."""
    session.run(
        "INSERT INTO branches (repository, name, head, hidden) VALUES (?, ?, ?, ?)",
        repository_id,
        name,
        head,
        hidden,
    )


def delete_branch(session: Session, repository: "Repository", name: str) -> None:
    """Delete a branch and what is staged on it. Raises NotFound, Forbidden for the default branch."""
    if name == repository.default_branch:
        raise Forbidden("cannot delete repository default branch")
    branch = get_branch(session, repository.id, name)
    session.run("DELETE FROM staging WHERE branch = ?", branch.id)
    session.run("DELETE FROM branches WHERE id = ?", branch.id)


def move_branch(session: Session, branch: Branch, head: bytes) -> None:
    """Point a branch at another commit."""
    session.run("UPDATE branches SET head = ? WHERE id = ?", head, branch.id)


def seal_branch(session: Session, branch: Branch) -> int:
    """Close what is staged for a commit in preparation; writes from now on stay out of it. The sealed layer."""
    session.run("UPDATE branches SET layer = layer + 1 WHERE id = ?", branch.id)
    return branch.layer


def page_of_branches(
    session: Session, repository: "Repository", paging: Paging, *, hidden: bool
) -> Page[Branch]:
    """Branches by name, hidden ones only if asked for."""
    shown = "" if hidden else "hidden = 0 AND "
    select = f"SELECT id, name, head, layer FROM branches WHERE repository = ? AND {shown}"
    return page_of_names(session, select, (repository.id,), paging, lambda row: Branch(*row), "name")


def check_writable(repository: "Repository", name: str) -> None:
    """Raises Forbidden if the branch is protected from writing too: it takes merges only."""
    if any(rule.from_writing for rule in _rules_of_branch(repository, name)):
        raise Forbidden("cannot write to protected branch")


def check_committable(repository: "Repository", name: str) -> None:
    """Raises Forbidden if the branch is protected."""
    if any(_rules_of_branch(repository, name)):
        raise Forbidden("cannot commit to protected branch")


def _rules_of_branch(repository: "Repository", name: str) -> "Iterator[Protection]":
    return (rule for rule in repository.protection if fnmatchcase(name, rule.pattern))
