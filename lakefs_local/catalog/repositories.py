"""Repositories: made with a first commit, read-only or not, deleted with all they hold."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lakefs_local.catalog import branches, commits, names
from lakefs_local.catalog.errors import Forbidden, Invalid, NotFound, NotUnique
from lakefs_local.catalog.paging import Page, Paging, page_of_names
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


def get(session: Session, name: str) -> Repository:
    """Raises NotFound."""
    row = session.one(f"SELECT {_COLUMNS} FROM repositories WHERE name = ?", name)
    if row is None:
        raise NotFound("repository not found")
    return _of_row(row)


def writable(session: Session, name: str, *, force: bool = False) -> Repository:
    """The repository, if it may be changed. Raises NotFound, Forbidden if it is read-only (`force` overrides)."""
    repository = get(session, name)
    if repository.read_only and not force:
        raise Forbidden("read-only repository")
    return repository


def create(
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
    names.check_branch(default_branch)
    check_new(session, name)
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
    repository = get(session, name)
    if bare:
        return repository
    first = commits.add(session, repository.id, commits.draft((), 0, None, "", "Repository created", {}))
    branches.insert(session, repository.id, default_branch, first.id, hidden=False)
    return repository


def check_new(session: Session, name: str) -> None:
    """Raises NotUnique if there is a repository of that name."""
    if session.one("SELECT 1 FROM repositories WHERE name = ?", name):
        raise NotUnique("error creating repository: not unique")


def delete(session: Session, name: str, *, force: bool = False) -> None:
    """Delete a repository with its branches, tags, commits and staging. Raises NotFound, Forbidden."""
    repository = writable(session, name, force=force)
    session.run(
        "DELETE FROM staging WHERE branch IN (SELECT id FROM branches WHERE repository = ?)", repository.id
    )
    for table in ("branches", "tags", "commits", "imports", "runs", "hook_runs"):
        session.run(f"DELETE FROM {table} WHERE repository = ?", repository.id)
    session.run("DELETE FROM repositories WHERE id = ?", repository.id)


def listing(session: Session, paging: Paging) -> Page[Repository]:
    """Repositories by name."""
    return page_of_names(session, f"SELECT {_COLUMNS} FROM repositories WHERE ", (), paging, _of_row, "name")


def set_metadata(session: Session, repository: Repository, metadata: dict[str, str]) -> None:
    """Add to a repository's metadata; keys that are there are replaced."""
    _store_metadata(session, repository, repository.metadata | metadata)


def delete_metadata(session: Session, repository: Repository, keys: list[str]) -> None:
    """Remove keys from a repository's metadata; absent ones are no error."""
    _store_metadata(session, repository, {k: v for k, v in repository.metadata.items() if k not in keys})


def set_protection(session: Session, repository: Repository, rules: Sequence[Protection]) -> None:
    """Replace the rules of protected branches."""
    stored = [rule.pattern if rule.from_writing else {"commits": rule.pattern} for rule in rules]
    session.run("UPDATE repositories SET protection = ? WHERE id = ?", json.dumps(stored), repository.id)


def _store_metadata(session: Session, repository: Repository, metadata: dict[str, str]) -> None:
    session.run("UPDATE repositories SET metadata = ? WHERE id = ?", json.dumps(metadata), repository.id)


def _of_row(row: tuple[Any, ...]) -> Repository:
    number, name, namespace, default_branch, read_only, created, metadata, protection = row
    rules = tuple(
        Protection(rule) if isinstance(rule, str) else Protection(rule["commits"], from_writing=False)
        for rule in json.loads(protection)
    )
    return Repository(
        number, name, namespace, default_branch, bool(read_only), created, json.loads(metadata), rules
    )
