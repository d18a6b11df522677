"""lakeFS's conventions, which all of the catalog keeps: what can go wrong (the HTTP side gives each class its
status), which names and paths are accepted, and pages of sorted results, paths grouped by a delimiter.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lakefs_local.storage.database import Session

MAX_PATH_BYTES = 1024
_BRANCH = re.compile(r"\w[-\w]*", re.ASCII)
_TAG_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{")
T = TypeVar("T")
Listed = tuple[bytes, T | None]


class CatalogError(Exception):
    """Base: the message is what the client is told."""


class NotFound(CatalogError):
    """No such repository, branch, tag, commit, object or import."""


class Invalid(CatalogError):
    """A value lakeFS does not accept."""


class NotUnique(CatalogError):
    """The name is taken."""


class Conflict(CatalogError):
    """The request contradicts the present state."""


class MergeConflict(CatalogError):
    """Both sides changed these paths."""

    def __init__(self, paths: list[bytes]):
        super().__init__("conflict found")
        self.paths = paths


class Forbidden(CatalogError):
    """A protected branch, a read-only repository, or an import from a folder that is not allowed."""


class NoChanges(CatalogError):
    """Nothing to commit or merge."""

    def __init__(self, message: str = "no changes"):
        super().__init__(message)


class Dirty(CatalogError):
    """The branch has uncommitted changes."""

    def __init__(self) -> None:
        super().__init__("uncommitted changes (dirty branch)")


class PreconditionFailed(CatalogError):
    """`If-None-Match: *` met an object, or a hook refused."""


class TooManyTries(CatalogError):
    """The branch kept moving while a change to it was prepared."""


class BrokenActions(CatalogError):
    """An action file of the branch does not parse."""


class Gone(CatalogError):
    """The bytes of an object are no longer where its address says."""


def prefixed(prefix: str, problem: CatalogError) -> CatalogError:
    """The same problem with its message put in context, as lakeFS words it."""
    if isinstance(problem, MergeConflict):
        return problem
    problem.args = (f"{prefix}{problem.args[0]}",)
    return problem


def check_branch(name: str) -> None:
    """Raises Invalid unless the name is letters, digits, `_` and `-`, not starting with a dash."""
    if not _BRANCH.fullmatch(name):
        raise Invalid(
            "argument branch: branch id: invalid value: validation error: branch id must consist of letters, "
            "digits, underscores and dashes, and cannot start with a dash"
        )


def check_tag(name: str) -> None:
    """Raises Invalid for what git would not accept as a reference name either."""
    wrong_end = name.endswith((".", "/", ".lock"))
    dotted = any(part.startswith(".") for part in name.split("/"))
    if not name or name == "@" or wrong_end or dotted or name.startswith("/") or _TAG_FORBIDDEN.search(name):
        raise Invalid("argument tagID: tag id: invalid value: validation error")


def check_path(path: str) -> bytes:
    """The path as the bytes it is stored under. Raises Invalid if it is empty or longer than 1,024 bytes."""
    key = path.encode()
    if not key:
        raise Invalid("argument path: invalid value: validation error: required value")
    if len(key) > MAX_PATH_BYTES:
        raise Invalid(
            f"argument path: invalid value: validation error: {len(key)} is above maximum length ({MAX_PATH_BYTES})"
        )
    return key


def after_prefix(prefix: bytes) -> bytes | None:
    """The smallest key above every key with this prefix; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


@dataclass(frozen=True, slots=True)
class Paging:
    """What part of a sorted result is asked for."""

    prefix: str = ""
    after: str = ""
    amount: int = 100
    delimiter: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next_offset` is the last result's key if more follows, else empty."""

    results: list[T]
    next_offset: str = ""

    @property
    def has_more(self) -> bool:
        """Whether another page follows."""
        return bool(self.next_offset)


def cut_page(results: list[T], amount: int, key: Callable[[T], str]) -> Page[T]:
    """A page of at most `amount` of `results`, of which one more than that was fetched if there was one."""
    if len(results) > amount:
        results = results[:amount]
        return Page(results, key(results[-1]))
    return Page(results)


def page_of_names(
    session: Session,
    select: str,
    values: tuple[Any, ...],
    paging: Paging,
    of_row: Callable[[tuple[Any, ...]], T],
    column: str,
) -> Page[T]:
    """A page of rows sorted by a name column. `select` ends where conditions can be added."""
    conditions, arguments = [f"{column} >= ?", f"{column} > ?"], [*values, paging.prefix, paging.after]
    upper = after_prefix(paging.prefix.encode())
    if upper is not None:
        conditions.append(f"CAST({column} AS BLOB) < ?")
        arguments.append(upper)
    query = f"{select}{' AND '.join(conditions)} ORDER BY {column} LIMIT ?"
    results: list[T] = [of_row(row) for row in session.rows(query, *arguments, paging.amount + 1)]
    name: Callable[[Any], str] = lambda result: getattr(result, "name")  # noqa: B009, E731
    return cut_page(results, paging.amount, name)


"""A path and what is there; None: a common prefix."""


def page_of_paths(entries: Callable[[bytes], Iterator[tuple[bytes, T]]], paging: Paging) -> Page[Listed[T]]:
    """One page of paths with a prefix, after an offset, grouped by a delimiter.

    `entries(start)` gives what is there in order of path from `start` on. A common prefix equal to the offset is
    left out, as an object would be.
    """
    found: list[Listed[T]] = []
    for item in _grouped(entries, paging):
        found.append(item)
        if len(found) > paging.amount:
            return Page(found[:-1], found[-2][0].decode())
    return Page(found)


def _grouped(entries: Callable[[bytes], Iterator[tuple[bytes, T]]], paging: Paging) -> Iterator[Listed[T]]:
    prefix, after, delimiter = paging.prefix.encode(), paging.after.encode(), paging.delimiter.encode()
    run: Iterator[tuple[bytes, T]] | None = entries(max(prefix, after))
    while run is not None:
        folded = None
        for path, value in run:
            if not path.startswith(prefix):
                return
            at = path.find(delimiter, len(prefix)) if delimiter else -1
            if at >= 0:
                folded = path[: at + len(delimiter)]
                break
            if path != after:
                yield path, value
        if folded is None:
            return
        if folded != after:
            yield folded, None
        beyond = after_prefix(folded)
        run = None if beyond is None else entries(beyond)
