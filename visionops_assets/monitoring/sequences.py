"""Which of a device's numbered reports were taken: each counts once, in whatever order they come."""

from collections.abc import Sequence

# So many gaps are remembered of a device; the oldest are taken for closed, and what comes for them late for repeated.
MOST_RANGES = 32


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
