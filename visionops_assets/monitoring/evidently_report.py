"""The page that Evidently draws of a day: a file of a few MB, written for days that alarm.

Distances and thresholds are those of `drift.py`, which computes what Evidently computes (a test holds them together):
simulations and a month of backfill need no page.
"""

import os
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from visionops_assets.monitoring.drift import DayDrift, DriftReference
from visionops_assets.monitoring.signals import signals

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

# More columns, or rows, make a page that browsers open slowly.
MOST_COLUMNS, MOST_ROWS = 12, 20_000


def report_page(reference: DriftReference, day: pd.DataFrame, found: DayDrift) -> str:
    """The page as HTML that needs no network, of the columns that were judged; the embedding has none."""
    return str(snapshot(reference, day, found).get_html_str(as_iframe=False))


def snapshot(reference: DriftReference, day: pd.DataFrame, found: DayDrift) -> "Snapshot":
    """What Evidently finds in the columns that were judged."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    # At no distance at all: the same constant on both sides, of which there is nothing to draw.
    judged = [each for each in found.columns if each.distance and each.kind != "embedding"][:MOST_COLUMNS]
    names = [each.column for each in judged]
    tables = [_thinned(signals(rows, reference.task)[names]) for rows in (day, reference.rows)]
    numbers = [name for name in names if pd.api.types.is_numeric_dtype(tables[1][name])]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in names if name not in numbers]
    )
    current, known = (Dataset.from_pandas(table, data_definition=definition) for table in tables)
    metrics = [
        ValueDrift(column=each.column, method=each.method, threshold=each.threshold) for each in judged
    ]
    return Report([DriftedColumnsCount(columns=names), *metrics], include_tests=True).run(current, known)


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) <= MOST_ROWS:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)].reset_index(drop=True)
