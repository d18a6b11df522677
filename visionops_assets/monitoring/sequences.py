"""Which reports of one key of a device were taken: each counts once, in whatever order they come.

A number that comes again with other bytes was given twice: by two devices with one key, as where a disk was copied, or
by one whose state was put back. Then one of the two is not counted, and whoever asked for it is told.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

# So many gaps are remembered of a device; the oldest are taken for closed.
MOST_RANGES = 32
# Of so many reports that were taken last it is known what they were: a device repeats the last one that it brought.
MOST_DIGESTS = 32

Taken = Literal["new", "repeated", "another", "unknown"]


class Window:
    """The numbers that were taken, as ranges [first, last] in their order."""

    def __init__(self, ranges: Sequence[Sequence[int]] = ()) -> None:
        self._ranges = [[int(first), int(last)] for first, last in ranges]

    def take(self, number: int) -> bool:
        """Take a number; False where it was taken before, or may have been."""
        if self._ranges and number < self._ranges[0][0] and len(self._ranges) >= MOST_RANGES:
            return False
        if any(first <= number <= last for first, last in self._ranges):
            return False
        joined: list[list[int]] = []
        for first, last in sorted([*self._ranges, [number, number]]):
            if joined and first == joined[-1][1] + 1:
                joined[-1][1] = last
            else:
                joined.append([first, last])
        if len(joined) > MOST_RANGES:
            joined[:2] = [[joined[0][0], joined[1][1]]]
        self._ranges = joined
        return True

    @property
    def ranges(self) -> list[list[int]]:
        """As a record keeps them; the last ends with the highest number."""
        return self._ranges


class TakenReports:
    """What was taken of one key: numbers, what the last ones were, and when the first and the highest were made."""

    def __init__(self, record: Mapping[str, Any] | None = None) -> None:
        """`record` is what `record` gave, or that of a collector that knew numbers only."""
        known = record or {}
        self._window = Window(known.get("taken", ()))
        self._digests = {int(number): str(digest) for number, digest in known.get("digests", ())}
        self._newest = _when(known.get("newest"))
        self.first = _when(known.get("first"))

    def take(self, number: int, digest: str, at: datetime) -> Taken:
        """Take a report by its number, the digest of its bytes, and the time at which it was made.

        `another`: of this number another one was taken. `unknown`: it is too long ago to say whether it is the same.
        """
        if self._window.take(number):
            self._digests[number] = digest
            while len(self._digests) > MOST_DIGESTS:
                del self._digests[next(iter(self._digests))]
            self.first = min(self.first or at, at)
            if number == self._window.ranges[-1][1]:
                self._newest = at
            return "new"
        known = self._digests.get(number)
        if known is None:
            return "unknown"
        return "repeated" if known == digest else "another"

    def is_overtaken(self, number: int, at: datetime) -> bool:
        """Whether a lower number than the highest was made later than that: one device counts upwards."""
        ranges = self._window.ranges
        return bool(ranges and self._newest and number < ranges[-1][1] and at > self._newest)

    def record(self) -> dict[str, Any]:
        """As it is kept for the next collection."""
        found: dict[str, Any] = {"taken": self._window.ranges, "digests": list(self._digests.items())}
        for name, time in (("newest", self._newest), ("first", self.first)):
            if time is not None:
                found[name] = time.isoformat()
        return found


def _when(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None
