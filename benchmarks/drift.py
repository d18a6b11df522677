"""A day of 100,000 rows and 64 numbers, and what a month computes, against plain scipy of the same run.

    python benchmarks/drift.py

Budgets: 40 s and below 1 GB of memory for the day with Evidently's page; `production_days.py` has the month's.
The baseline is what one would write first: scipy's Wasserstein distance of every number, without a threshold.
"""

import argparse
import resource
from datetime import date, timedelta
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import wasserstein_distance
from timing import seconds

from resources.storage import ArtifactStore
from visionops_assets.common.keys import asset_key
from visionops_assets.common.tables import write_table
from visionops_assets.config.production_rules import DriftRules
from visionops_assets.monitoring.drift import DriftReference
from visionops_assets.monitoring.labels_wanted import labels_wanted
from visionops_assets.monitoring.model_days import DRIFT_COLUMNS, Where, alarm_states, drift_days, drift_rows
from visionops_assets.monitoring.performance import accuracy_estimator, performance_of_day
from visionops_assets.monitoring.production_day import (
    StoredDays,
    features_of,
    needed_day,
    stored_features,
    typed_table,
)
from visionops_assets.monitoring.signals import STATISTICS
from visionops_assets.monitoring.watch import report_page

CLASSES = tuple(f"class-{number}" for number in range(10))
WHERE = Where("a" * 64, "all")
# Beside the statistics and the confidence, the embedding makes it 64 numbers.
EMBEDDING = 64 - len(STATISTICS) - 1


def rows(count: int, seed: int, brighter: float = 0.0) -> pd.DataFrame:
    """Rows of the log, with labels."""
    random = np.random.default_rng(seed)
    numbers = pd.DataFrame(random.gamma(4, size=(count, len(STATISTICS))), columns=list(STATISTICS))
    probabilities = random.dirichlet(np.full(len(CLASSES), 0.15), count)
    names = np.array(CLASSES, object)
    best = probabilities.argmax(axis=1)
    right = random.random(count) < probabilities.max(axis=1)
    kept = pd.DataFrame(
        {
            "timestamp": pd.Timestamp("2026-06-01", tz="UTC") + pd.to_timedelta(np.arange(count), "s"),
            "device": "camera-1",
            "device_group": WHERE.device_group,
            "model_sha256": WHERE.model_sha256,
            "image_sha256": [f"{seed:032x}{number:032x}" for number in range(count)],
            "capture": "captures/frame.png",
            "prediction": names[best],
            "confidence": probabilities.max(axis=1),
            "probabilities": list(probabilities),
            "embedding": list(random.normal(size=(count, EMBEDDING)).astype(np.float32)),
            "label": names[np.where(right, best, (best + 1) % len(CLASSES))],
        }
    )
    return pd.concat([kept, numbers.assign(brightness=numbers["brightness"] + brighter)], axis=1)


def one_day(count: int, page: bool) -> int:
    """Compare a day with its reference; the number of columns that drifted."""
    reference = DriftReference(rows(count, 0), "classification", DriftRules())
    day = rows(count, 1, brighter=1.0)
    found = reference.compare(features_of(day, "classification"))
    if page:
        report_page(reference, day, found)
    return len(found.drifted)


def naive(count: int) -> None:
    """Every number by scipy, embedding included."""
    one, other = (
        np.hstack([part[[*STATISTICS, "confidence"]].to_numpy(), np.stack(part["embedding"].tolist())])
        for part in (rows(count, 0), rows(count, 1))
    )
    for column in range(one.shape[1]):
        wasserstein_distance(one[:, column], other[:, column])


def month(days: int, count: int, holdout: int) -> None:
    """What the assets of a month compute and store, from logs that are stored already."""
    first = date(2026, 6, 1)
    with TemporaryDirectory() as folder:
        store = ArtifactStore(root=folder)
        reference = DriftReference(rows(holdout, 0), "classification", DriftRules())
        estimator = accuracy_estimator([reference.rows])
        past = StoredDays(store, "benchmark", "drift_report")
        for number in range(days):
            day = first + timedelta(days=number)
            log = rows(count, number + 1, brighter=1.0 if number > 20 else 0.0)
            watched = features_of(log, "classification")
            keep(store, "features", day, stored_features(watched, "classification"))
            stored = needed_day(store, "benchmark", "features", day.isoformat())
            found = reference.compare(stored)
            table = drift_rows(WHERE, found)
            past.keep(day, table)
            keep(store, "drift_report", day, typed_table(table, DRIFT_COLUMNS))
            state = alarm_states(drift_days(past.until(day))[WHERE], DriftRules().days)[-1]
            if state.outcome == "FAIL":
                report_page(reference, stored, found)
            performance_of_day(log, "classification", CLASSES, estimator, 50)
            labels_wanted(log.assign(label=None), reference.rows, "classification", 50)


def keep(store: ArtifactStore, asset: str, day: date, table: pd.DataFrame | pa.Table) -> None:
    store.write_json(asset_key("benchmark", asset, day.isoformat()), write_table(store, table))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rows-a-day", type=int, default=2_000)
    parser.add_argument("--holdout", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    _, plain = seconds(lambda: naive(arguments.rows), arguments.repeats)
    for name, page in (("without a page", False), ("with Evidently's page", True)):
        wall, cpu = seconds(partial(one_day, arguments.rows, page), arguments.repeats)
        print(
            f"{arguments.rows:,} rows × 64 numbers, {name}: {wall:.1f} s, of CPU {cpu:.1f} s, "
            f"{cpu / plain:.2f}× the distances by scipy alone ({plain:.1f} s)"
        )
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    wall, cpu = seconds(
        lambda: month(arguments.days, arguments.rows_a_day, arguments.holdout), arguments.repeats
    )
    print(f"{arguments.days} days of {arguments.rows_a_day:,} rows: {wall:.1f} s, of CPU {cpu:.1f} s")


if __name__ == "__main__":
    main()
