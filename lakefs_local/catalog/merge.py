"""Three-way comparison: a pure function over two sorted runs of differences from a common base."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from lakefs_local.storage.tree import Difference


class Strategy(StrEnum):
    """Which side wins where both changed a path; by default neither."""

    NONE = ""
    DEST_WINS = "dest-wins"
    SOURCE_WINS = "source-wins"


class Change(NamedTuple):
    """What merging would do to one path of the destination. None: not there."""

    key: bytes
    destination: bytes | None
    source: bytes | None
    conflict: bool


def compare(
    source: Iterable[Difference],
    destination: Iterable[Difference],
    same: Callable[[bytes | None, bytes | None], bool],
) -> Iterator[Change]:
    """Paths on which the source changed something that the destination does not have yet, in order.

    Both runs are differences from the base to that side, sorted by path. A path on which both sides ended alike is
    no change; one on which they ended differently is a conflict.
    """
    others = iter(destination)
    other = next(others, None)
    for change in source:
        if same(change.left, change.right):
            continue
        while other is not None and other.key < change.key:
            other = next(others, None)
        if other is None or other.key != change.key or same(other.left, other.right):
            at_destination = other.right if other is not None and other.key == change.key else change.left
            yield Change(change.key, at_destination, change.right, conflict=False)
        elif not same(other.right, change.right):
            yield Change(change.key, other.right, change.right, conflict=True)
