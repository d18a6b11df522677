"""The rows of a batch that a check may have something to say of, found on its columns: the text of only these is made.

`batch` are annotations, `others` the rows of other batches in the manifest.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionops_assets.dataset.batch_images import NO_BOXES
from visionops_assets.dataset.importing.compact_columns import bytes_of_hex

Rows = NDArray[np.int64]


def with_unknown_labels(batch: pa.Table, classes: Sequence[str]) -> Rows:
    """Rows with a label that is none of the classes."""
    known = pa.array([*classes, *NO_BOXES] if "boxes" in batch.column_names else classes, pa.string())
    if "boxes" not in batch.column_names:
        return np.flatnonzero(~pc.is_in(batch["label"], value_set=known).to_numpy())
    boxes = _boxes(batch)
    wrong = pc.invert(pc.is_in(boxes.flatten().field("label"), value_set=known))
    return _rows(boxes, wrong.to_numpy(zero_copy_only=False))


def with_odd_boxes(batch: pa.Table) -> Rows:
    """Rows with a box that has no area or leaves its image."""
    if "boxes" not in batch.column_names:
        return np.zeros(0, np.int64)
    boxes = _boxes(batch)
    parents = pc.list_parent_indices(boxes).to_numpy()
    x, y, w, h = (boxes.flatten().field(side).to_numpy().astype(np.float64) for side in "xywh")
    width, height = (batch[side].to_numpy()[parents] for side in ("width", "height"))
    inside = (x >= -1) & (y >= -1) & (x + w <= width + 1) & (y + h <= height + 1)
    return _rows(boxes, ~((w > 0) & (h > 0) & inside))


def copied(batch: pa.Table, others: pa.Table) -> tuple[Rows, Rows]:
    """Rows of the batch that have the SHA-256 of another image, and the rows of other batches with one of these.

    A few more may come along: only the first eight bytes are compared.
    """
    mine, theirs = (
        bytes_of_hex(table["sha256"], 32)[:, :8].copy().view(np.uint64) for table in (batch, others)
    )
    both = np.sort(np.concatenate([mine, theirs], axis=None))
    twice = np.unique(both[1:][both[1:] == both[:-1]])
    own = np.flatnonzero(np.isin(mine.ravel(), twice))
    return own, np.flatnonzero(np.isin(theirs.ravel(), mine.ravel()[own]))


def _boxes(batch: pa.Table) -> pa.Array:
    column = batch["boxes"]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _rows(boxes: pa.Array, chosen: NDArray[np.bool_]) -> Rows:
    return np.unique(pc.list_parent_indices(boxes).to_numpy()[chosen])
