"""The annotations of a batch as a table, made column by column."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionops_assets.dataset.annotations import BOXES, COLUMNS, SPLITS
from visionops_assets.dataset.batch_images import BatchImages
from visionops_assets.dataset.importing.listing import ascending
from visionops_assets.dataset.splits import Sides
from visionops_assets.dataset.texts import hex_texts
from visionops_assets.dataset.together import Together


def annotations_table(together: Together, sides: Sides, by_path: NDArray[np.int64]) -> pa.Table:
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
    truth = ("boxes", images.boxes, BOXES) if images.detects else ("label", images.label, pa.string())
    columns: dict[str, pa.Array | None] = {
        "path": batch.paths,
        "sha256": texts,
        "phash": hex_texts(looks.phash.astype(">u8").view(np.uint8).reshape(-1, 8)),
        "width": pa.array(looks.width),
        "height": pa.array(looks.height),
        "size": pa.array(looks.size),
        "split": pa.array(SPLITS).take(pa.array(sides.splits[place])),
        "excluded": pa.array(sides.excluded[place]),
        truth[0]: None if truth[1] is None else truth[1].cast(truth[2]),
        "group": groups,
        "captured_at": images.captured_at,
        "source": None if images.source is None else images.source.cast(pa.string()),
    }
    made = {
        name: pa.nulls(len(batch), COLUMNS[name]) if column is None else column
        for name, column in columns.items()
    }
    return pa.table(made | _extra(batch))


def _extra(batch: BatchImages) -> dict[str, pa.Array]:
    """The columns of the batch's own. Without any value there is no telling its type."""
    return {
        key: pa.nulls(len(batch)) if values.null_count == len(batch) else values
        for key, (values, told) in sorted(batch.images.extra.items())
        if told.any()
    }


def _groups(together: Together, sides: Sides) -> pa.Array | None:
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
