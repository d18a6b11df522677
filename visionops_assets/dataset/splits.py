"""Which side a sample is on: data, decided once, when a batch is audited.

1. A split that came with the data wins. 2. A near duplicate joins the group and the side of the oldest image it
duplicates. 3. A sample of a group that has a side takes that side. 4. A new group gets its side where the shares
fall most short, groups in salted-hash order. 5. A sample with an older duplicate on another side than its own is
excluded: on either side it would leak.

Nothing that `main` has is ever moved.

So that every side gets its share, of all samples and of every class, whole groups are placed: what a side lacks of
its share of the final total is its shortfall. The cost of a placement is the chi-square of the shortfalls, Σ
shortfall² / wanted, over the sides; of each class, and of all samples, which weigh as much as all classes together.
Each group, in the order given, goes where the cost falls most; then groups are moved, and where they are few also
exchanged, as long as that lowers the cost further. Python's own floats in a fixed order: the same placement on
every machine.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from visionops_assets.dataset.versions.annotations import SPLITS

# The axis of all samples, which no class can be called.
_ALL = None

_ROUNDS = 20
# Exchanging pairs costs the square of their number; many groups come close enough by single moves.
_FEW_GROUPS = 100
_NEGLIGIBLE = 1e-9

Labels = tuple[str, ...]
# Samples by class, and all of them.
Count = Mapping[str | None, int]
NO_SPLIT = -1


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
        moved = _move_groups(sides, groups, kinds, need)
        exchanged = len(groups) <= _FEW_GROUPS and _exchange_groups(
            sides, [kinds[kind] for kind in groups], need
        )
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


def _move_groups(
    sides: NDArray[np.int8], groups: NDArray[np.int32], kinds: Sequence[Count], need: _Need
) -> bool:
    moved = False
    for place, kind in enumerate(groups):
        before, count = sides[place], kinds[kind]
        gain = need.take(before, count)
        best, change = need.best(count)
        if gain + change < -_NEGLIGIBLE:
            sides[place], moved = best, True
        need.add(sides[place], count)
    return moved


def _exchange_groups(sides: NDArray[np.int8], counts: Sequence[Count], need: _Need) -> bool:
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


@dataclass(frozen=True)
class Samples:
    """N samples as columns, those of `main` first, then the new ones from oldest to newest, from `first_new` on.

    `groups` are equal numbers where the groups are, `splits` numbers of `SPLITS` or `NO_SPLIT`, `labels` places in
    `label_sets`, all (N,). `key` and `group` give the key and the group's name of the sample at a place.
    """

    first_new: int
    groups: NDArray[np.int32]
    splits: NDArray[np.int8]
    labels: NDArray[np.int32]
    excluded: NDArray[np.bool_]
    label_sets: Sequence[Labels]
    key: Callable[[int], str]
    group: Callable[[int], str]


@dataclass(frozen=True)
class Sides:
    """Where N samples are: `groups` and `splits` as in `Samples`, `excluded`, all (N,).

    Of the new samples that duplicate another, `oldest` is the oldest one, and `named_by` that whose own group they
    joined, by place.
    """

    groups: NDArray[np.int32]
    splits: NDArray[np.int8]
    excluded: NDArray[np.bool_]
    oldest: Mapping[int, int]
    named_by: Mapping[int, int]


def place_samples(
    samples: Samples, shares: Mapping[str, float], salt: str, duplicates: Mapping[int, Sequence[int]]
) -> Sides:
    """Give every new sample its side and group, and say whether it is excluded.

    `duplicates` gives the places, old and new, that a new one is a near duplicate of. `shares` sum to 1.
    """
    groups, oldest, named_by = _groups(samples, duplicates)
    splits = _known_sides(samples, groups, oldest)
    pending = np.flatnonzero(splits == NO_SPLIT)
    pending = pending[pending >= samples.first_new]
    if len(pending):
        held = _held(samples, splits, shares)
        splits[pending] = _sides_of_pending(samples, groups[pending], pending, named_by, held, shares, salt)
    excluded = samples.excluded.copy()
    _exclude(samples.first_new, splits, excluded, duplicates)
    return Sides(groups, splits, excluded, oldest, named_by)


def _groups(
    samples: Samples, duplicates: Mapping[int, Sequence[int]]
) -> tuple[NDArray[np.int32], dict[int, int], dict[int, int]]:
    """The groups; and of each new sample with an older duplicate the oldest one, and whose own group it joined."""
    groups = samples.groups.copy()
    oldest: dict[int, int] = {}
    named_by: dict[int, int] = {}
    for place in sorted(duplicates):
        older = [other for other in duplicates[place] if other < place]
        if older:
            on_main = [other for other in older if other < samples.first_new]
            # Among images of `main`, whose age is not known, the first by path.
            first = min(on_main, key=samples.key) if on_main else min(older)
            oldest[place], named_by[place] = first, named_by.get(first, first)
            groups[place] = groups[first]
    return groups, oldest, named_by


def _known_sides(samples: Samples, groups: NDArray[np.int32], oldest: Mapping[int, int]) -> NDArray[np.int8]:
    """The sides that do not depend on the shares."""
    sides = _sides_of_groups(samples, groups)
    splits = samples.splits.copy()
    new = splits[samples.first_new :]
    new[...] = np.where(new == NO_SPLIT, sides[groups[samples.first_new :]], new)
    for place in sorted(oldest):
        if samples.splits[place] == NO_SPLIT and splits[oldest[place]] != NO_SPLIT:
            splits[place] = splits[oldest[place]]
    return splits


def _sides_of_groups(samples: Samples, groups: NDArray[np.int32]) -> NDArray[np.int8]:
    """The side of each group: where most of it is on `main`, else where most came with the data, or `NO_SPLIT`."""
    number = int(groups.max(initial=-1)) + 1
    sides = np.full(number, NO_SPLIT, np.int8)
    for part in (slice(samples.first_new, None), slice(0, samples.first_new)):
        most = np.zeros(number, np.int64)
        for split in range(len(SPLITS)):
            there = np.bincount(groups[part][samples.splits[part] == split], minlength=number)
            if split == 0:
                # What is on `main` counts alone.
                sides = np.where(_any(samples, groups, part, number), 0, sides).astype(np.int8)
            larger = there > most
            sides[larger], most[larger] = split, there[larger]
    return sides


def _any(samples: Samples, groups: NDArray[np.int32], part: slice, number: int) -> NDArray[np.bool_]:
    has = np.zeros(number, bool)
    has[groups[part][samples.splits[part] != NO_SPLIT]] = True
    return has


def _held(samples: Samples, splits: NDArray[np.int8], shares: Mapping[str, float]) -> dict[str, Count]:
    """What each side has already."""
    held = {}
    for side in shares:
        here = samples.labels[(splits == SPLITS.index(side)) & ~samples.excluded]
        times = np.bincount(here, minlength=len(samples.label_sets)).tolist()
        held[side] = count_samples(
            (labels, number) for labels, number in zip(samples.label_sets, times, strict=True) if number
        )
    return held


def _sides_of_pending(
    samples: Samples,
    groups: NDArray[np.int32],
    pending: NDArray[np.int64],
    named_by: Mapping[int, int],
    held: Mapping[str, Count],
    shares: Mapping[str, float],
    salt: str,
) -> NDArray[np.int8]:
    """The sides of the samples at the places `pending`, whose `groups` have none yet."""
    by_group = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[by_group], prepend=-1))
    sizes = np.diff(starts, append=len(pending))
    in_hash_order = _in_hash_order(samples, pending[by_group[starts]], named_by, salt)
    kinds: list[Count] = []
    known: dict[tuple[tuple[str | None, int], ...], int] = {}
    of_set: dict[int, int] = {}
    kind_of = np.empty(len(starts), np.int32)
    for number, group in enumerate(in_hash_order):
        start, size = starts[group], sizes[group]
        labels = samples.labels[pending[by_group[start : start + size]]]
        alone = int(labels[0]) if size == 1 else None
        kind = of_set.get(alone) if alone is not None else None
        if kind is None:
            count = count_samples((samples.label_sets[one], 1) for one in labels)
            kind = known.setdefault(tuple(count.items()), len(kinds))
            if kind == len(kinds):
                kinds.append(count)
            if alone is not None:
                of_set[alone] = kind
        kind_of[number] = kind
    names = np.array([SPLITS.index(side) for side in shares], np.int8)
    sides = np.empty(len(starts), np.int8)
    sides[in_hash_order] = names[place_groups(kind_of, kinds, held, shares)]
    answer = np.empty(len(pending), np.int8)
    answer[by_group] = np.repeat(sides, sizes)
    return answer


def _in_hash_order(
    samples: Samples, places: NDArray[np.int64], named_by: Mapping[int, int], salt: str
) -> NDArray[np.int64]:
    """The places' own places, sorted by the salted hash of the group there."""
    groups = [named_by.get(place, place) for place in places.tolist()] if named_by else places.tolist()
    first = np.fromiter(
        (int.from_bytes(_hash(salt, samples.group(place))[:8], "big") for place in groups),
        np.uint64,
        len(groups),
    )
    order = np.argsort(first)
    if (first[order[1:]] == first[order[:-1]]).any():
        return np.array(sorted(range(len(groups)), key=lambda row: _hash(salt, samples.group(groups[row]))))
    return order


def _exclude(
    first_new: int,
    splits: NDArray[np.int8],
    excluded: NDArray[np.bool_],
    duplicates: Mapping[int, Sequence[int]],
) -> None:
    for place in sorted(duplicates):
        # Oldest first: what is excluded itself leaks nothing.
        others = {int(splits[other]) for other in duplicates[place] if other < place and not excluded[other]}
        excluded[place] = bool(others - {NO_SPLIT, int(splits[place])})


def _hash(salt: str, group: str) -> bytes:
    return hashlib.sha256(f"{salt}\0{group}".encode()).digest()
