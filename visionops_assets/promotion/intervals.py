"""What was in production from when to when, as a table of a page."""

from collections.abc import Callable, Sequence

from visionops_assets.champions.history import Interval
from visionops_assets.pages.page import Cell, Table

COLUMNS = ("version", "from (UTC)", "until", "how", "by", "why")


def intervals_table(intervals: Sequence[Interval], version: Callable[[int], Cell] = str) -> Table:
    """One row an interval, newest first; `version` makes the cell of a version, for example a link."""
    rows = tuple(
        (
            version(each.version),
            f"{each.start:%Y-%m-%d %H:%M}",
            until(each),
            each.entry.kind,
            each.entry.who,
            each.entry.why,
        )
        for each in reversed(intervals)
    )
    return Table(COLUMNS, rows)


def until(interval: Interval) -> str:
    """When it ended, or `now`."""
    return f"{interval.end:%Y-%m-%d %H:%M}" if interval.end is not None else "now"
