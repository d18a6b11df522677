"""What the champion thinks of a batch's labels, asked for a bounded number of images at once."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionops_assets.dataset.batch_images import BatchImages
from visionops_assets.dataset.findings import findings_table
from visionops_assets.dataset.formats.source import unchanged
from visionops_assets.dataset.rules import AuditRules
from visionops_assets.dataset.suspects import (
    Opinion,
    Suspect,
    suspect_boxes,
    suspect_labels,
    suspects_table,
)

# A multiple of what models are given at once, so that they are given the same.
_AT_ONCE = 4096


def check_plausible(
    batch: BatchImages, table: pa.Table, rows: NDArray[np.int64], opinion: Opinion | None, rules: AuditRules
) -> pd.DataFrame:
    """The labels of a batch, in the annotations `table` with each image in its row (N,), against what the champion
    says. A class that it never learnt is no disagreement."""
    if opinion is None:
        return findings_table([])
    judged = np.arange(len(batch))
    if not batch.detects:
        learnt = pc.is_in(table["label"], value_set=pa.array(opinion.classes, pa.string())).to_numpy()
        judged = judged[learnt[rows]]
    suspects: list[Suspect] = []
    number = 0
    for start in range(0, len(judged), _AT_ONCE):
        places = judged[start : start + _AT_ONCE]
        annotated = table.take(pa.array(rows[places])).to_pandas()
        predictions = opinion.predict(_images(batch, places))
        found, seen = (
            suspect_boxes(annotated, predictions, opinion.classes, rules.confidence)
            if batch.detects
            else suspect_labels(annotated, predictions, rules.confidence)
        )
        suspects += found
        number += seen
    return suspects_table(suspects, number, rules.max_disagreement)


def _images(batch: BatchImages, places: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
    for place in places.tolist():
        yield batch.paths[place].as_py(), unchanged(batch.images[place], batch.sha256(place))
