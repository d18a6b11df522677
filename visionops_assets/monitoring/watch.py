"""One production day under watch: every model on every device group, against its own reference.

Its numbers become metrics of the runs that made the models. For a day that alarms, Evidently draws a page of a few
MB: distances and thresholds are those of `drift.py`, which computes what Evidently computes (a test holds them
together), so that simulations and a month of backfill need no page.
"""

import os
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from resources.models.registry import ModelRegistry
from visionops_assets.config.project import Project
from visionops_assets.monitoring.drift import DayDrift, DriftReference
from visionops_assets.monitoring.labels_wanted import WANTED_COLUMNS, labels_wanted
from visionops_assets.monitoring.model_days import (
    DRIFT_COLUMNS,
    PERFORMANCE_COLUMNS,
    AlarmState,
    Where,
    alarm_states,
    by_model,
    drift_days,
    drift_rows,
    no_comparison,
    performance_days,
    performance_row,
)
from visionops_assets.monitoring.monitoring_task import monitoring_task
from visionops_assets.monitoring.performance import AccuracyEstimator, accuracy_estimator, performance_of_day
from visionops_assets.monitoring.production_day import StoredDays
from visionops_assets.monitoring.reference import NoReference, References
from visionops_assets.monitoring.signals import watched_columns

if TYPE_CHECKING:
    from evidently.core.report import Snapshot


# Labels of so many days, the present one included, calibrate the estimate beside the holdout.
CALIBRATION_DAYS = 14


@dataclass(frozen=True)
class WatchedDay:
    """The table of a day, and where each model stands on each device group after it.

    `shares` are the shares of drifted columns, `pages` Evidently's for those whose alarm stands and that drifted today.
    """

    table: pd.DataFrame
    states: dict[Where, AlarmState]
    shares: dict[Where, float] = field(default_factory=dict)
    pages: dict[Where, str] = field(default_factory=dict)


def watch_drift(
    project: Project, day: date, features: pd.DataFrame, references: References, past: StoredDays
) -> WatchedDay:
    """Compare a day's features with the references of the models that ran then; `past` learns of the day.

    A model without a reference has a row that says why, and is not judged. Raises what lakeFS and MLflow raise.
    """
    parts, compared = [], {}
    for where, rows in by_model(features):
        try:
            reference = references.of(where.model_sha256)
        except NoReference as error:
            parts.append(no_comparison(where, len(rows), str(error)))
            continue
        found = reference.compare(rows)
        compared[where] = (reference, rows, found)
        parts.append(drift_rows(where, found))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(DRIFT_COLUMNS))
    past.keep(day, table)
    days = drift_days(past.until(day))
    states = {where: alarm_states(days[where], project.drift.days)[-1] for where, _ in by_model(table)}
    alarming = [where for where in compared if states[where].outcome == "FAIL" and states[where].warning]
    return WatchedDay(
        table,
        states,
        {where: found.share for where, (_, _, found) in compared.items()},
        {where: report_page(*compared[where]) for where in alarming},
    )


def watch_performance(
    project: Project, day: date, log: pd.DataFrame, estimators: "Estimators", past: StoredDays
) -> WatchedDay:
    """Count and estimate how well each model did on a day; `past` and `estimators` learn of it."""
    estimators.keep(day, log)
    floor = project.performance_floor()
    rows = []
    for where, part in by_model(log):
        estimator = estimators.of(day, where.model_sha256)
        share = project.production.captures.share
        rules = project.drift
        found = performance_of_day(part, project.task, project.classes, estimator, rules.min_rows, share)
        rows.append(performance_row(where, found, floor))
    table = pd.DataFrame(rows, columns=list(PERFORMANCE_COLUMNS))
    past.keep(day, table)
    days = performance_days(past.until(day))
    states = {where: alarm_states(days[where], project.drift.days)[-1] for where, _ in by_model(table)}
    return WatchedDay(table, states)


def want_labels(project: Project, log: pd.DataFrame, references: References) -> pd.DataFrame:
    """The captures of a day most worth a label, of every model on every device group."""
    parts = []
    for where, rows in by_model(log):
        try:
            reference = references.of(where.model_sha256).rows
        except NoReference:
            reference = rows.head(0)
        share = project.production.captures.share
        parts.append(labels_wanted(rows, reference, project.task, project.drift.labels, share))
    found = [part for part in parts if len(part)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(WANTED_COLUMNS))


def keep_pages(
    pages: Mapping[Where, str], day: date, references: References, registry: ModelRegistry
) -> dict[Where, str]:
    """Store Evidently's pages with the runs of the models; returns where MLflow's UI shows each."""
    links = {}
    for where, page in pages.items():
        run_id = references.version(where.model_sha256).run_id
        path = f"monitoring/{day}/{where.plain_group()}/drift.html"
        registry.artifacts.put_bytes(run_id, path, page.encode())
        links[where] = registry.run_url(registry.runs.get(run_id), path)
    return links


class Estimators:
    """The estimators of a project's classifiers, as they are on a day: each day's log is read once.

    None for a detector, and for a model with neither a reference nor labels.
    """

    def __init__(self, project: Project, references: References, logs: StoredDays) -> None:
        self._project, self._references, self._logs = project, references, logs
        self._labelled: dict[date, pd.DataFrame] = {}
        self._fitted: dict[Hashable, AccuracyEstimator | None] = {}

    def keep(self, day: date, log: pd.DataFrame) -> None:
        """A day's log is this one, whatever was stored before."""
        labelled = log[log["label"].notna()]
        self._labelled[day] = labelled[["model_sha256", "image_sha256", "prediction", "confidence", "label"]]

    def of(self, day: date, model_sha256: str) -> AccuracyEstimator | None:
        """Calibrated on the model's holdout and on its labelled rows of this day and those before it that count."""
        if not monitoring_task(self._project.task).estimated:
            return None
        days = [day - timedelta(days=back) for back in range(CALIBRATION_DAYS)]
        for each in days:
            log = self._logs.at(each) if each not in self._labelled else None
            if log is not None:
                self.keep(each, log)
        labelled = {each: self._labelled[each] for each in days if each in self._labelled}
        mine = {each: rows[rows["model_sha256"] == model_sha256] for each, rows in labelled.items()}
        known = {each: rows for each, rows in mine.items() if len(rows)}
        key = (model_sha256, *known)
        if key not in self._fitted:
            try:
                holdout = [self._references.of(model_sha256).rows]
            except NoReference:
                holdout = []
            self._fitted[key] = accuracy_estimator([*holdout, *known.values()])
        return self._fitted[key]


class DayMetrics:
    """Numbers of days, gathered and then logged as `<device group>.<name>` at the step YYYYMMDD of each model's run.

    A day that is judged again and gives what it gave adds no point.
    """

    def __init__(self, references: References, registry: ModelRegistry) -> None:
        self._references, self._registry = references, registry
        self._points: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))

    def add(self, values: Mapping[Where, Mapping[str, float]], day: date) -> None:
        """Take the numbers of a day; those of a model that is not registered have no run to go to."""
        for where, numbers in values.items():
            try:
                run_id = self._references.version(where.model_sha256).run_id
            except NoReference:
                continue
            for name, value in numbers.items():
                self._points[run_id][f"{where.plain_group()}.{name}"][int(f"{day:%Y%m%d}")] = value

    def log(self) -> None:
        """Log what was taken. Raises what MLflow raises."""
        for run_id, points in self._points.items():
            self._registry.runs.log_points(run_id, points)


# More columns, or rows, make a page that browsers open slowly.
PAGE_COLUMNS, PAGE_ROWS = 12, 20_000


def report_page(reference: DriftReference, day: pd.DataFrame, found: DayDrift) -> str:
    """The page as HTML that needs no network, of the columns that were judged; the embedding has none."""
    return str(evidently_snapshot(reference, day, found).get_html_str(as_iframe=False))


def evidently_snapshot(reference: DriftReference, day: pd.DataFrame, found: DayDrift) -> "Snapshot":
    """What Evidently finds in the columns that were judged."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    # At no distance at all: the same constant on both sides, of which there is nothing to draw.
    compared = [each for each in found.columns if each.distance and each.kind != "embedding"][:PAGE_COLUMNS]
    names = [each.column for each in compared]
    tables = [_thinned_rows(watched_columns(rows, reference.task)[names]) for rows in (day, reference.rows)]
    numbers = [name for name in names if pd.api.types.is_numeric_dtype(tables[1][name])]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in names if name not in numbers]
    )
    current, known = (Dataset.from_pandas(table, data_definition=definition) for table in tables)
    metrics = [
        ValueDrift(column=each.column, method=each.method, threshold=each.threshold) for each in compared
    ]
    return Report([DriftedColumnsCount(columns=names), *metrics], include_tests=True).run(current, known)


def _thinned_rows(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) <= PAGE_ROWS:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, PAGE_ROWS).astype(np.int64)].reset_index(drop=True)
