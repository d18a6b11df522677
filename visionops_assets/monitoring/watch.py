"""One production day under watch: every model on every device group, against its own reference."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

import pandas as pd

from resources.models.registry import ModelRegistry
from visionops_assets.monitoring.estimate import AccuracyEstimator
from visionops_assets.monitoring.evidently_report import report_page
from visionops_assets.monitoring.judgement import State, judge_days
from visionops_assets.monitoring.labels_wanted import WANTED_COLUMNS, labels_wanted
from visionops_assets.monitoring.model_days import (
    DRIFT_COLUMNS,
    PERFORMANCE_COLUMNS,
    Where,
    by_model,
    drift_days,
    drift_rows,
    no_comparison,
    performance_days,
    performance_row,
)
from visionops_assets.monitoring.performance import accuracy_estimator, performance_of_day
from visionops_assets.monitoring.reference import NoReference, References
from visionops_assets.monitoring.stored_days import StoredDays
from visionops_assets.project import Project

# Labels of so many days, the present one included, calibrate the estimate beside the holdout.
CALIBRATION_DAYS = 14


@dataclass(frozen=True)
class WatchedDay:
    """The table of a day, and where each model stands on each device group after it.

    `shares` are the shares of drifted columns, `pages` Evidently's for those whose alarm stands and that drifted today.
    """

    table: pd.DataFrame
    states: dict[Where, State]
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
    states = {where: judge_days(days[where], project.drift.days)[-1] for where, _ in by_model(table)}
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
    states = {where: judge_days(days[where], project.drift.days)[-1] for where, _ in by_model(table)}
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
        if self._project.task != "classification":
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
