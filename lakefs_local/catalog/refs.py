"""References: `branch`, `tag`, commit id or its unique prefix, with `~n`, `^n`, `@` (head) and `$` (staging); and
tags, names that stay on a commit. They share one namespace with branches.
"""

import re
from dataclasses import dataclass

from lakefs_local.catalog import commits, conventions, repositories
from lakefs_local.catalog.conventions import (
    Conflict,
    Invalid,
    NotFound,
    NotUnique,
    Page,
    Paging,
    page_of_names,
)
from lakefs_local.catalog.repositories import Branch, Repository
from lakefs_local.storage.database import Session

_INVALID = "ref: invalid value: validation error"
_REFERENCE = re.compile(r"(?P<base>[^~^@$]+)(?P<modifiers>(?:[~^@$][^~^@$]*)*)", re.DOTALL)
_HEX = re.compile(r"[0-9a-fA-F]{1,64}")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A commit id; `branch` is set if what is staged on that branch belongs to what was named."""

    commit: bytes
    branch: Branch | None = None
    staging_only: bool = False


def resolve(session: Session, repository_id: int, reference: str) -> Resolved:
    """Raises Invalid for an expression that means nothing, NotFound for one that names nothing."""
    match = _REFERENCE.fullmatch(reference)
    if not match:
        raise Invalid(_INVALID)
    base, modifiers = match["base"], re.findall(r"[~^@$][^~^@$]*", match["modifiers"])
    branch = None if _is_id(base) else repositories.find_branch(session, repository_id, base)
    start = branch.head if branch else _resolve_name(session, repository_id, base)
    if not modifiers:
        return Resolved(start, branch)
    if modifiers in (["@"], ["$"]):
        if branch is None:
            raise Invalid(_INVALID)
        return Resolved(start) if modifiers == ["@"] else Resolved(start, branch, staging_only=True)
    for modifier in modifiers:
        start = _step(session, repository_id, start, modifier)
    return Resolved(start)


def resolve_commit(session: Session, repository_id: int, reference: str) -> bytes:
    """The commit a reference points to, of a branch its head. Raises Invalid for `$`, and as `resolve`."""
    resolved = resolve(session, repository_id, reference)
    if resolved.staging_only:
        raise Invalid(f"{_INVALID}: should point to a commit")
    return resolved.commit


def _is_id(base: str) -> bool:
    return len(base) == 64 and _HEX.fullmatch(base) is not None


def _resolve_name(session: Session, repository_id: int, base: str) -> bytes:
    tag = session.one("SELECT target FROM tags WHERE repository = ? AND name = ?", repository_id, base)
    if tag:
        target: bytes = tag[0]
        return target
    found = commits.find_prefix(session, repository_id, base) if _HEX.fullmatch(base) else None
    if found is None:
        raise NotFound("not found")
    return found


def _step(session: Session, repository_id: int, commit_id: bytes, modifier: str) -> bytes:
    kind, digits = modifier[0], modifier[1:]
    if kind in "@$":
        raise Invalid(_INVALID)
    if digits and not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise Invalid(f"could not parse modifier {modifier}: {_INVALID}")
    count = int(digits or 1)
    if kind == "~":
        for _ in range(count):
            commit_id = _parent(session, repository_id, commit_id, 1)
        return commit_id
    if count == 0:
        return commit_id
    if count > max(1, len(commits.get(session, repository_id, commit_id).parents)):
        raise Invalid(_INVALID)
    return _parent(session, repository_id, commit_id, count)


def _parent(session: Session, repository_id: int, commit_id: bytes, number: int) -> bytes:
    parents = commits.get(session, repository_id, commit_id).parents
    if len(parents) < number:
        raise NotFound("not found")
    return parents[number - 1]


@dataclass(frozen=True, slots=True)
class Tag:
    """`target` is a commit id."""

    name: str
    target: bytes


def get_tag(session: Session, repository: Repository, name: str) -> Tag:
    """Raises NotFound."""
    row = session.one("SELECT name, target FROM tags WHERE repository = ? AND name = ?", repository.id, name)
    if row is None:
        raise NotFound("tag not found")
    return Tag(*row)


def create_tag(session: Session, repository: Repository, name: str, target: bytes) -> Tag:
    """Raises Invalid, NotUnique, or Conflict if a branch has the name."""
    conventions.check_tag(name)
    if session.one("SELECT 1 FROM tags WHERE repository = ? AND name = ?", repository.id, name):
        raise NotUnique("tag already exists: not unique")
    if repositories.find_branch(session, repository.id, name):
        raise Conflict(f"branch ID {name}: conflict found")
    session.run("INSERT INTO tags VALUES (?, ?, ?)", repository.id, name, target)
    return Tag(name, target)


def delete_tag(session: Session, repository: Repository, name: str) -> None:
    """Raises NotFound."""
    if not session.run("DELETE FROM tags WHERE repository = ? AND name = ?", repository.id, name):
        raise NotFound("tag not found")


def page_of_tags(session: Session, repository: Repository, paging: Paging) -> Page[Tag]:
    """Tags by name."""
    select = "SELECT name, target FROM tags WHERE repository = ? AND "
    return page_of_names(session, select, (repository.id,), paging, lambda row: Tag(*row), "name")
