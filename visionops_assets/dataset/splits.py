"""Which side a sample is on: data, decided once, when a batch is audited.

1. A split that came with the data wins.
2. A near duplicate joins the group and the side of the oldest image it duplicates.
3. A sample of a group that has a side takes that side.
4. A new group gets its side where the shares fall most short (`shares.py`), groups in salted-hash order.
5. A sample with an older duplicate on another side than its own is excluded: on either side it would leak.

Nothing that `main` has is ever moved.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from visionops_assets.dataset.annotations import SPLITS
from visionops_assets.dataset.shares import place_groups


@dataclass(frozen=True)
class Sample:
    """What splitting needs to know of an image; `labels` are its classes (of its boxes), each once.

    `key` is unique (its path). `group` None means that it is its own group, named by its `sha256`. `split` is
    that of `main` for an image that is there, or what came with the data, or None.
    """

    key: str
    sha256: str
    labels: tuple[str, ...]
    group: str | None = None
    split: str | None = None
    excluded: bool = False


@dataclass(frozen=True)
class Placement:
    """Where a new sample went. `duplicate_of` is the key of the oldest image it duplicates."""

    split: str
    group: str
    excluded: bool = False
    duplicate_of: str | None = None


def assign_splits(
    new: Sequence[Sample],
    existing: Sequence[Sample],
    shares: Mapping[str, float],
    salt: str,
    duplicates: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, Placement]:
    """Give every new sample its side, group and whether it is excluded, by key.

    `new` stands from oldest to newest. `duplicates` gives the keys, old and new, that a new key is a near
    duplicate of. `shares` are the wanted shares of the sides and sum to 1. The same input gives the same
    answer; the order of `existing` does not matter.
    """
    groups, oldest = _groups(new, existing, duplicates or {})
    sides = _sides_of_groups(new, existing, groups)
    split_of = {sample.key: sample.split for sample in existing if sample.split}
    pending: dict[str, list[Sample]] = defaultdict(list)
    for sample in new:
        split = sample.split or split_of.get(oldest.get(sample.key, "")) or sides.get(groups[sample.key])
        if split:
            split_of[sample.key] = split
        else:
            pending[groups[sample.key]].append(sample)
    placed = [
        (split_of[sample.key], sample.labels)
        for sample in [*existing, *new]
        if sample.key in split_of and not sample.excluded
    ]
    in_hash_order = sorted(pending, key=lambda group: _hash(salt, group))
    wanted = {group: [sample.labels for sample in pending[group]] for group in in_hash_order}
    for group, side in place_groups(wanted, placed, shares).items():
        split_of |= {sample.key: side for sample in pending[group]}
    excluded = _excluded(new, existing, split_of, duplicates or {})
    return {
        sample.key: Placement(
            split_of[sample.key], groups[sample.key], sample.key in excluded, oldest.get(sample.key)
        )
        for sample in new
    }


def _groups(
    new: Sequence[Sample], existing: Sequence[Sample], duplicates: Mapping[str, Iterable[str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """The group of each new key, and the oldest image it duplicates if any."""
    age = {sample.key: (1, place) for place, sample in enumerate(new)}
    known = {sample.key: sample for sample in existing}
    groups: dict[str, str] = {}
    oldest: dict[str, str] = {}
    for place, sample in enumerate(new):
        older = [key for key in duplicates.get(sample.key, ()) if age.get(key, (0, 0)) < (1, place)]
        if older:
            # Among images of `main`, whose age is not known, the first by path.
            first = min(older, key=lambda key: (age.get(key, (0, 0)), key))
            oldest[sample.key] = first
            groups[sample.key] = groups[first] if first in groups else _own_group(known[first])
        else:
            groups[sample.key] = _own_group(sample)
    return groups, oldest


def _own_group(sample: Sample) -> str:
    return sample.sha256 if sample.group is None else sample.group


def _sides_of_groups(
    new: Sequence[Sample], existing: Sequence[Sample], groups: Mapping[str, str]
) -> dict[str, str]:
    """The side of each group that has one: where most of it is on `main`, else where most came with the data."""
    for_existing: dict[str, Counter[str]] = defaultdict(Counter)
    for_new: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in existing:
        if sample.split:
            for_existing[_own_group(sample)][sample.split] += 1
    for sample in new:
        if sample.split:
            for_new[groups[sample.key]][sample.split] += 1
    return {group: _most(counts) for group, counts in (for_new | for_existing).items()}


def _most(counts: Mapping[str, int]) -> str:
    return max(SPLITS, key=lambda split: counts.get(split, 0))


def _excluded(
    new: Sequence[Sample],
    existing: Sequence[Sample],
    split_of: Mapping[str, str],
    duplicates: Mapping[str, Iterable[str]],
) -> set[str]:
    sides = {sample.key: sample.split for sample in existing if not sample.excluded}
    excluded: set[str] = set()
    for sample in new:
        # Oldest first: what is excluded itself leaks nothing.
        others = {sides.get(key) for key in duplicates.get(sample.key, ())} - {None}
        if others - {split_of[sample.key]}:
            excluded.add(sample.key)
        else:
            sides[sample.key] = split_of[sample.key]
    return excluded


def _hash(salt: str, group: str) -> bytes:
    return hashlib.sha256(f"{salt}\0{group}".encode()).digest()
