"""Placing whole groups so that every side gets its share, of all samples and of every class.

What a side lacks of its share of the final total is its shortfall. The cost of a placement is the chi-square
of the shortfalls, Σ shortfall² / wanted, over the sides; of each class, and of all samples, which weigh as
much as all classes together. Each group, in the order given, goes where the cost falls most; then groups are
moved, and where they are few also exchanged, as long as that lowers the cost further. Python's own floats in
a fixed order: the same placement on every machine.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

# The axis of all samples, which no class can be called.
_ALL = None

_ROUNDS = 20
# Exchanging pairs costs the square of their number; many groups come close enough by single moves.
_FEW_GROUPS = 100
_NEGLIGIBLE = 1e-9

Labels = tuple[str, ...]


def place_groups(
    groups: Mapping[str, Sequence[Labels]],
    placed: Iterable[tuple[str, Labels]],
    shares: Mapping[str, float],
) -> dict[str, str]:
    """The side of each group, given as the labels of each of its samples.

    `placed` are the side and labels of the samples that have their side already. `shares` sum to 1.
    """
    counts = {name: _count(samples) for name, samples in groups.items()}
    need = _Need(counts.values(), placed, shares)
    sides: dict[str, str] = {}
    for name, count in counts.items():
        sides[name], _ = need.best(count)
        need.add(sides[name], count)
    for _ in range(_ROUNDS):
        moved = _move(sides, counts, need)
        exchanged = len(counts) <= _FEW_GROUPS and _exchange(sides, counts, need)
        if not moved and not exchanged:
            break
    return sides


class _Need:
    """What each side lacks of its share, by axis: every class, and all samples."""

    def __init__(
        self,
        groups: Iterable[Mapping[str | None, int]],
        placed: Iterable[tuple[str, Labels]],
        shares: Mapping[str, float],
    ) -> None:
        held: dict[str, list[Labels]] = {side: [] for side in shares}
        for side, labels in placed:
            held[side].append(labels)
        present = {side: _count(samples) for side, samples in held.items()}
        total: Counter[str | None] = Counter()
        for count in [*groups, *present.values()]:
            total.update(count)
        weight = dict.fromkeys(total, 1.0) | {_ALL: max(1.0, len(total) - 1.0)}
        self._lacks = {
            side: {axis: share * number - present[side].get(axis, 0) for axis, number in total.items()}
            for side, share in shares.items()
        }
        self._scale = {
            side: {axis: weight[axis] / max(share * number, _NEGLIGIBLE) for axis, number in total.items()}
            for side, share in shares.items()
        }

    def change(self, side: str, count: Mapping[str | None, int]) -> float:
        """How the cost changes when a group comes to a side."""
        lacks, scale = self._lacks[side], self._scale[side]
        return sum(number * (number - 2 * lacks[axis]) * scale[axis] for axis, number in count.items())

    def best(self, count: Mapping[str | None, int]) -> tuple[str, float]:
        """The side where a group lowers the cost most, and how the cost changes."""
        changes = {side: self.change(side, count) for side in self._lacks}
        side = min(changes, key=changes.__getitem__)
        return side, changes[side]

    def add(self, side: str, count: Mapping[str | None, int]) -> None:
        for axis, number in count.items():
            self._lacks[side][axis] -= number

    def take(self, side: str, count: Mapping[str | None, int]) -> float:
        """Take a group from a side; how the cost changes."""
        for axis, number in count.items():
            self._lacks[side][axis] += number
        return -self.change(side, count)


def _move(sides: dict[str, str], counts: Mapping[str, Mapping[str | None, int]], need: _Need) -> bool:
    moved = False
    for name, count in counts.items():
        before = sides[name]
        gain = need.take(before, count)
        best, change = need.best(count)
        if gain + change < -_NEGLIGIBLE:
            sides[name], moved = best, True
        need.add(sides[name], count)
    return moved


def _exchange(sides: dict[str, str], counts: Mapping[str, Mapping[str | None, int]], need: _Need) -> bool:
    exchanged = False
    for one, other in combinations(counts, 2):
        first, second = sides[one], sides[other]
        if first == second:
            continue
        change = need.take(first, counts[one]) + need.take(second, counts[other])
        change += need.change(second, counts[one]) + need.change(first, counts[other])
        if change < -_NEGLIGIBLE:
            sides[one], sides[other] = second, first
            exchanged = True
        need.add(sides[one], counts[one])
        need.add(sides[other], counts[other])
    return exchanged


def _count(samples: Iterable[Labels]) -> dict[str | None, int]:
    """Samples by class, and all of them, in a fixed order."""
    counted: Counter[str] = Counter()
    number = 0
    for labels in samples:
        number += 1
        counted.update(labels)
    return {_ALL: number} | {label: counted[label] for label in sorted(counted)}
