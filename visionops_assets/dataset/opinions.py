"""What the champion thinks of a batch's labels, asked for a bounded number of images at once."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from visionops_assets.dataset.findings import findings_table
from visionops_assets.dataset.rules import AuditRules
from visionops_assets.dataset.suspects import (
    Opinion,
    Suspect,
    suspect_boxes,
    suspect_labels,
    suspects_table,
    suspects_unheard,
)
from visionops_assets.dataset.uploads import Uploads

# A multiple of what models are given at once, so that they are given the same.
_AT_ONCE = 4096


def check_plausible(
    uploads: Uploads, table: pa.Table, opinion: Opinion | None, rules: AuditRules
) -> pd.DataFrame:
    """The labels of a batch's images, in its annotations `table`, against what the champion says. A class that it
    never learnt is no disagreement."""
    if opinion is None:
        return findings_table([])
    if opinion.unheard is not None:
        return suspects_unheard(opinion.unheard)
    judged, detects = np.arange(len(uploads)), "boxes" in table.column_names
    if not detects:
        learnt = pc.is_in(table["label"], value_set=pa.array(opinion.classes, pa.string())).to_numpy()
        judged = judged[learnt[uploads.rows]]
    suspects: list[Suspect] = []
    number = 0
    for start in range(0, len(judged), _AT_ONCE):
        places = judged[start : start + _AT_ONCE]
        annotated = table.take(pa.array(uploads.rows[places])).to_pandas()
        images = ((one.path, one.read()) for one in (uploads[place] for place in places.tolist()))
        predictions = opinion.predict(images)
        found, seen = (
            suspect_boxes(annotated, predictions, opinion.classes, rules.confidence)
            if detects
            else suspect_labels(annotated, predictions, rules.confidence)
        )
        suspects += found
        number += seen
    return suspects_table(suspects, number, rules.max_disagreement)
