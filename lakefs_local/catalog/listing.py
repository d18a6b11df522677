"""Grouping sorted paths by a delimiter: what lies behind it is folded into one common prefix and skipped."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from lakefs_local.catalog.names import after_prefix
from lakefs_local.catalog.paging import Page, Paging

T = TypeVar("T")

Listed = tuple[bytes, T | None]
"""A path and what is there; None: a common prefix."""


def page(entries: Callable[[bytes], Iterator[tuple[bytes, T]]], paging: Paging) -> Page[Listed[T]]:
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
