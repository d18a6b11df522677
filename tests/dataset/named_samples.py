"""Splitting by key, one object a sample: what tests say, put as the columns that a batch is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visionops_assets.dataset.splits import NO_SPLIT, Samples, place_samples
from visionops_assets.dataset.versions.annotations import SPLITS


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
    both = [*existing, *new]
    places = {sample.key: place for place, sample in enumerate(both)}
    groups = [_own_group(sample) for sample in both]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    label_sets = {labels: number for number, labels in enumerate(dict.fromkeys(one.labels for one in both))}
    samples = Samples(
        len(existing),
        np.array([numbers[group] for group in groups], np.int32),
        np.array([SPLITS.index(one.split) if one.split else NO_SPLIT for one in both], np.int8),
        np.array([label_sets[one.labels] for one in both], np.int32),
        np.array([one.excluded for one in both], bool),
        list(label_sets),
        lambda place: both[place].key,
        lambda place: groups[place],
    )
    known = {places[key]: [places[other] for other in others] for key, others in (duplicates or {}).items()}
    sides = place_samples(samples, shares, salt, known)
    return {
        both[place].key: Placement(
            SPLITS[sides.splits[place]],
            groups[sides.named_by.get(place, place)],
            bool(sides.excluded[place]),
            both[sides.oldest[place]].key if place in sides.oldest else None,
        )
        for place in range(len(existing), len(both))
    }


def _own_group(sample: Sample) -> str:
    return sample.sha256 if sample.group is None else sample.group
