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

import numpy as np
from numpy.typing import NDArray

# The axis of all samples, which no class can be called.
_ALL = None

_ROUNDS = 20
# Exchanging pairs costs the square of their number; many groups come close enough by single moves.
_FEW_GROUPS = 100
_NEGLIGIBLE = 1e-9

Labels = tuple[str, ...]
# Samples by class, and all of them.
Count = Mapping[str | None, int]


def place_groups(
    groups: NDArray[np.int32], kinds: Sequence[Count], held: Mapping[str, Count], shares: Mapping[str, float]
) -> NDArray[np.int8]:
    """The side of each group, as its place among the `shares`, int8 (G,).

    `groups` (G,) says of each which of the `kinds` it counts. `held` counts the samples that have their side
    already, by side. `shares` sum to 1.
    """
    need = _Need(np.bincount(groups, minlength=len(kinds)).tolist(), kinds, held, shares)
    sides = np.empty(len(groups), np.int8)
    for place, kind in enumerate(groups):
        sides[place], _ = need.best(kinds[kind])
        need.add(sides[place], kinds[kind])
    for _ in range(_ROUNDS):
        moved = _move(sides, groups, kinds, need)
        exchanged = len(groups) <= _FEW_GROUPS and _exchange(sides, [kinds[kind] for kind in groups], need)
        if not moved and not exchanged:
            break
    return sides


class _Need:
    """What each side lacks of its share, by axis: every class, and all samples."""

    def __init__(
        self,
        times: Sequence[int],
        kinds: Sequence[Count],
        held: Mapping[str, Count],
        shares: Mapping[str, float],
    ) -> None:
        total: Counter[str | None] = Counter()
        for number, count in [*zip(times, kinds, strict=True), *((1, count) for count in held.values())]:
            total.update({axis: number * samples for axis, samples in count.items()})
        weight = dict.fromkeys(total, 1.0) | {_ALL: max(1.0, len(total) - 1.0)}
        self._lacks = [
            {axis: share * number - held[side].get(axis, 0) for axis, number in total.items()}
            for side, share in shares.items()
        ]
        self._scale = [
            {axis: weight[axis] / max(share * number, _NEGLIGIBLE) for axis, number in total.items()}
            for share in shares.values()
        ]

    def change(self, side: int, count: Count) -> float:
        """How the cost changes when a group comes to a side."""
        lacks, scale = self._lacks[side], self._scale[side]
        return sum(number * (number - 2 * lacks[axis]) * scale[axis] for axis, number in count.items())

    def best(self, count: Count) -> tuple[int, float]:
        """The side where a group lowers the cost most, and how the cost changes."""
        changes = [self.change(side, count) for side in range(len(self._lacks))]
        change = min(changes)
        return changes.index(change), change

    def add(self, side: int, count: Count) -> None:
        for axis, number in count.items():
            self._lacks[side][axis] -= number

    def take(self, side: int, count: Count) -> float:
        """Take a group from a side; how the cost changes."""
        for axis, number in count.items():
            self._lacks[side][axis] += number
        return -self.change(side, count)


def _move(sides: NDArray[np.int8], groups: NDArray[np.int32], kinds: Sequence[Count], need: _Need) -> bool:
    moved = False
    for place, kind in enumerate(groups):
        before, count = sides[place], kinds[kind]
        gain = need.take(before, count)
        best, change = need.best(count)
        if gain + change < -_NEGLIGIBLE:
            sides[place], moved = best, True
        need.add(sides[place], count)
    return moved


def _exchange(sides: NDArray[np.int8], counts: Sequence[Count], need: _Need) -> bool:
    exchanged = False
    for one, other in combinations(range(len(counts)), 2):
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


def with_holdout(shares: Mapping[str, float], holdout: float) -> dict[str, float]:
    """The shares with another one held out; the others keep their proportions."""
    rest = sum(share for side, share in shares.items() if side != "holdout")
    return {
        side: holdout if side == "holdout" else (share * (1 - holdout) / rest if rest else 1 - holdout)
        for side, share in shares.items()
    }


def count_samples(samples: Iterable[tuple[Labels, int]]) -> Count:
    """Samples by class, and all of them, in a fixed order, from their labels and how many have these."""
    counted: Counter[str] = Counter()
    total = 0
    for labels, number in samples:
        total += number
        for label in labels:
            counted[label] += number
    return {_ALL: total} | {label: counted[label] for label in sorted(counted)}
