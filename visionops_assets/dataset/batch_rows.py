"""The rows of a batch's annotations: near duplicates found, every image on its side, a table made of it by columns."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from edge.images.decode import decode_with_header
from visionops_assets.common.arrow_columns import hex_texts, in_order, release_memory
from visionops_assets.dataset.batch_images import BatchImages
from visionops_assets.dataset.batch_on_main import BatchOnMain
from visionops_assets.dataset.deduplication.forensics import table_of_file
from visionops_assets.dataset.deduplication.image_views import Loaded
from visionops_assets.dataset.deduplication.near_duplicates import NearDuplicate, find_near_duplicates
from visionops_assets.dataset.importing.file_listing import ascending
from visionops_assets.dataset.importing.image_source import unchanged
from visionops_assets.dataset.splits import Count, Samples, Sides, count_samples, place_samples
from visionops_assets.dataset.versions.annotations import SPLITS, check_annotations, columns_with

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
    release_memory()
    return replace(placed, table=check_annotations(placed.table, file))


def _place(
    batch: BatchImages,
    existing: pa.Table,
    others: pa.Table,
    shares: Mapping[str, float],
    salt: str,
    read_existing: Fetch | None,
) -> PlacedBatch:
    together = BatchOnMain.of(batch, existing, others)
    pairs = _near_duplicates(together, read_existing)
    release_memory()
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
    release_memory()
    table = annotations_table(together, sides, by_path)
    return PlacedBatch(table, rows, told, straddling, labels, other_labels)


def _near_duplicates(together: BatchOnMain, read_existing: Fetch | None) -> list[NearDuplicate]:
    found: list[NearDuplicate] = find_near_duplicates(
        together.phashes(),
        together.digests,
        together.pixels(),
        together.first_new,
        _Pixels(together, read_existing),
        together.sureties(),
    )
    return found


class _Pixels:
    """Grey images by place: those of `main` first, then those at hand."""

    def __init__(self, together: BatchOnMain, read_existing: Fetch | None) -> None:
        self._together, self._read = together, read_existing

    def __call__(self, places: Sequence[int]) -> Iterator[Loaded]:
        batch, others = self._together.batch, len(self._together.others)
        wanted = {self._together.path(place): place for place in places if place < others}
        for place in (place for place in places if place >= others):
            image = int(self._together.order[place - others])
            data = unchanged(batch.images[image], batch.sha256(image))
            yield _loaded(place, data, self._together.path(place))
        if self._read is not None and wanted:
            for path, data in self._read(sorted(wanted)):
                yield _loaded(wanted[path], data, path)


def _loaded(place: int, data: bytes, path: str) -> Loaded:
    header, pixels = decode_with_header(data, path, None, 1)
    return Loaded(place, pixels, table_of_file(data, header))


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


def annotations_table(together: BatchOnMain, sides: Sides, by_path: NDArray[np.int64]) -> pa.Table:
    """The rows of the images of a batch on their sides, in the order `by_path` (N,)."""
    others = len(together.others)
    place = np.empty(len(by_path), np.int64)
    place[together.order] = np.arange(others, others + len(by_path))
    groups, batch = _groups(together, sides), together.batch
    if not ascending(by_path):
        place, batch = place[by_path], batch.take(by_path)
        groups = None if groups is None else groups.take(pa.array(by_path))
    looks, images, texts = batch.looks, batch.images, hex_texts(batch.looks.sha256)
    if groups is not None:
        groups = pc.if_else(pc.fill_null(pc.equal(groups, texts), True), pa.scalar(None, pa.string()), groups)
    truth, said = images.truths()
    kinds = columns_with(truth)
    columns: dict[str, pa.Array | None] = {
        "path": batch.paths,
        "sha256": texts,
        "phash": hex_texts(looks.phash.astype(">u8").view(np.uint8).reshape(-1, 8)),
        "width": pa.array(looks.width),
        "height": pa.array(looks.height),
        "size": pa.array(looks.size),
        "split": pa.array(SPLITS).take(pa.array(sides.splits[place])),
        "excluded": pa.array(sides.excluded[place]),
        truth.column: None if said is None else said.cast(truth.task.kind),
        "group": groups,
        "captured_at": images.captured_at,
        "source": None if images.source is None else images.source.cast(pa.string()),
    }
    made = {
        name: pa.nulls(len(batch), kinds[name]) if column is None else column
        for name, column in columns.items()
    }
    return pa.table(made | _extra(batch))


def _extra(batch: BatchImages) -> dict[str, pa.Array]:
    """The columns of the batch's own. Without any value there is no telling its type."""
    return {
        key: pa.nulls(len(batch)) if values.null_count == len(batch) else values
        for key, (values, told) in sorted(batch.images.extra.items())
        if told.any() and (batch.images.own is None or key != batch.images.own.column)
    }


def _groups(together: BatchOnMain, sides: Sides) -> pa.Array | None:
    """The name of each image's group in the order of the batch; null, or its SHA-256, where it is its own."""
    batch, others = together.batch, len(together.others)
    own = batch.images.group
    joined = [place for place in sides.named_by if place >= others]
    if own is None and not len(together.kept) and not joined:
        return None
    parts = [
        pa.nulls(len(batch), pa.string()) if own is None else own.cast(pa.string()),
        together.kept["group"].combine_chunks(),
        pa.array([together.group(sides.named_by[place]) for place in joined], pa.string()),
    ]
    chosen = np.arange(len(batch))
    chosen[together.order[: len(together.kept)]] = len(batch) + np.arange(len(together.kept))
    chosen[together.order[np.array(joined, np.int64) - others]] = (
        len(batch) + len(together.kept) + np.arange(len(joined))
    )
    return pa.concat_arrays([_flat(part) for part in parts]).take(pa.array(chosen))


def _flat(part: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(part, pa.ChunkedArray):
        return pa.concat_arrays(part.chunks) if part.num_chunks else pa.array([], part.type)
    return part
