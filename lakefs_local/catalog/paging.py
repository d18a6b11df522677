"""Pages of sorted results: `after` is exclusive, a page says whether more follows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lakefs_local.catalog.names import after_prefix
from lakefs_local.storage.database import Session

T = TypeVar("T")


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


def cut(results: list[T], amount: int, key: Callable[[T], str]) -> Page[T]:
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
    return cut(results, paging.amount, name)
