"""The rows of a batch's annotations: near duplicates found, every image on its side."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge.decode import Pixels, decode_whole
from visionops_assets.dataset.annotations import check_annotations
from visionops_assets.dataset.arrow_memory import give_back
from visionops_assets.dataset.batch_images import BatchImages
from visionops_assets.dataset.batch_table import annotations_table
from visionops_assets.dataset.importing.source import unchanged
from visionops_assets.dataset.importing.text_column import in_order
from visionops_assets.dataset.near_duplicates import NearDuplicate, find_near_duplicates
from visionops_assets.dataset.shares import Count, count_samples
from visionops_assets.dataset.splits import Samples, Sides, place_samples
from visionops_assets.dataset.together import Together

Fetch = Callable[[list[str]], Iterable[tuple[str, bytes]]]


@dataclass(frozen=True)
class PlacedBatch:
    """`table` are the annotations of N images, by path; `rows` the row of each image in the order given, int64 (N,).

    The rest names an image of the batch by its row, one of another batch by -1 less its row there: `duplicates` are
    the near duplicates, but for copies, as (newer, older, correlation), `straddling` the images of groups on two
    sides. `labels` counts the images of the batch by class, `other_labels` those of the other batches.
    """

    table: pa.Table
    rows: NDArray[np.int64]
    duplicates: Sequence[tuple[int, int, float]]
    straddling: Sequence[int]
    labels: Count
    other_labels: Count


def place_batch(
    batch: BatchImages,
    existing: pa.Table,
    others: pa.Table,
    shares: Mapping[str, float],
    salt: str,
    file: str,
    read_existing: Fetch | None,
) -> PlacedBatch:
    """The annotations of a batch, and what its near duplicates and groups are.

    `existing` is the manifest of `main`, `others` its rows of other batches. An image of this batch that `main`
    has already, unaltered, keeps its split, group and exclusion.
    """
    # Apart, so that what it took to place them is gone by now.
    placed = _place(batch, existing, others, shares, salt, read_existing)
    give_back()
    return replace(placed, table=check_annotations(placed.table, file))


def _place(
    batch: BatchImages,
    existing: pa.Table,
    others: pa.Table,
    shares: Mapping[str, float],
    salt: str,
    read_existing: Fetch | None,
) -> PlacedBatch:
    together = Together.of(batch, existing, others)
    pairs = _near_duplicates(together, read_existing)
    give_back()
    samples = together.samples()
    older: dict[int, list[int]] = defaultdict(list)
    for pair in pairs:
        older[pair.newer].append(pair.older)
    sides = place_samples(samples, shares, salt, older)
    by_path = in_order(batch.paths)
    rows = np.empty(len(batch), np.int64)
    rows[by_path] = np.arange(len(batch))

    def named(place: int) -> int:
        return -1 - place if place < len(others) else int(rows[together.order[place - len(others)]])

    # Copies are told by `audit.check_exact_duplicates`.
    told = [
        (named(pair.newer), named(pair.older), pair.correlation)
        for pair in pairs
        if (together.digests[pair.newer] != together.digests[pair.older]).any()
    ]
    straddling = [named(place) for place in _straddling(sides, len(others))]
    other_labels, labels = (
        _counted(samples, part) for part in (slice(0, len(others)), slice(len(others), None))
    )
    give_back()
    table = annotations_table(together, sides, by_path)
    return PlacedBatch(table, rows, told, straddling, labels, other_labels)


def _near_duplicates(together: Together, read_existing: Fetch | None) -> list[NearDuplicate]:
    return find_near_duplicates(
        together.phashes(),
        together.digests,
        together.pixels(),
        together.first_new,
        _Pixels(together, read_existing),
        together.sureties(),
    )


class _Pixels:
    """Grey images by place: those of `main` first, then those at hand."""

    def __init__(self, together: Together, read_existing: Fetch | None) -> None:
        self._together, self._read = together, read_existing

    def __call__(self, places: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
        batch, others = self._together.batch, len(self._together.others)
        wanted = {self._together.path(place): place for place in places if place < others}
        for place in (place for place in places if place >= others):
            image = int(self._together.order[place - others])
            data = unchanged(batch.images[image], batch.sha256(image))
            yield place, decode_whole(data, self._together.path(place), 1)
        if self._read is not None and wanted:
            for path, data in self._read(sorted(wanted)):
                yield wanted[path], decode_whole(data, path, 1)


def _straddling(sides: Sides, others: int) -> list[int]:
    """The places of groups that the batch has a part in, and that are used on two sides."""
    used = np.flatnonzero(~sides.excluded)
    number = int(sides.groups.max(initial=-1)) + 1
    on_sides = np.zeros(number, np.int8)
    for split in np.unique(sides.splits):
        there = np.zeros(number, bool)
        there[sides.groups[used][sides.splits[used] == split]] = True
        on_sides += there
    mine = np.zeros(number, bool)
    mine[sides.groups[others:]] = True
    return np.flatnonzero((mine & (on_sides > 1))[sides.groups]).tolist()


def _counted(samples: Samples, part: slice) -> Count:
    times = np.bincount(samples.labels[part], minlength=len(samples.label_sets)).tolist()
    return count_samples(
        (labels, number) for labels, number in zip(samples.label_sets, times, strict=True) if number
    )
