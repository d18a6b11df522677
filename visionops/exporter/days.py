"""What the stored tables of production days say of each model on each device group."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pandas as pd

from resources.artifact_store import ArtifactNotFound, ArtifactStore
from visionops.exporter import families
from visionops.exporter.families import Sample
from visionops.exporter.models import model_label
from visionops_assets.addresses import asset_key
from visionops_assets.common.tables import read_table
from visionops_assets.monitoring.judgement import Day, judge_days
from visionops_assets.monitoring.model_days import Where, by_model, drift_days, performance_days
from visionops_assets.monitoring.stored_days import LOOK_BACK_DAYS, stored_dates
from visionops_assets.project import Project

# By asset and day: the list that names a table's rows.
Listings = dict[str, dict[date, dict[str, Any]]]


class Days:
    """The samples of production days; a project of which nothing was stored anew is not judged anew."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._told: dict[str, tuple[Listings, Project, list[Sample]]] = {}

    def samples(self, project: Project) -> list[Sample]:
        """All samples of a project's production days. Raises what the artifact store raises."""
        name = project.project
        newest = max(stored_dates(self._artifacts, name, "inference_log"), default=None)
        listings = {asset: self._listings(name, asset) for asset in ("drift_report", "performance")}
        known = self._told.get(name)
        if known is None or known[:2] != (listings, project):
            drift, performance = (
                {day: read_table(self._artifacts, listing) for day, listing in found.items()}
                for found in listings.values()
            )
            samples = [*drift_samples(project, drift), *performance_samples(project, performance)]
            known = self._told[name] = (listings, project, samples)
        fresh = [families.NEWEST_DAY(midnight(newest), name)] if newest is not None else []
        return [*fresh, families.FLOOR(project.performance_floor(), name), *known[2]]

    def _listings(self, project: str, asset: str) -> dict[date, dict[str, Any]]:
        """What names the table of the newest day, and of each of the `LOOK_BACK_DAYS` before it, oldest first."""
        days = stored_dates(self._artifacts, project, asset)
        found = {}
        for day in days:
            if day >= days[-1] - timedelta(LOOK_BACK_DAYS):
                # A day that is taken away meanwhile is not there.
                with contextlib.suppress(ArtifactNotFound):
                    found[day] = self._artifacts.read_json(asset_key(project, asset, day.isoformat()))
        return found


def drift_samples(project: Project, tables: Mapping[date, pd.DataFrame]) -> Iterator[Sample]:
    """Of each model that ran lately: its newest day's rows and share of drifted columns, and its alarm."""
    judged = drift_days(tables)
    yield from _alarms(project, judged, "drift")
    for where, day, rows in _newest(project, tables):
        labels = _labels(project, where)
        yield families.ROWS(rows["rows"].iloc[0], *labels)
        compared = rows[rows["distance"].notna()]
        if len(compared):
            yield families.DRIFT(compared["drifted"].astype(bool).mean(), *labels)
            yield families.DRIFT_DAY(midnight(day), *labels)


def performance_samples(project: Project, tables: Mapping[date, pd.DataFrame]) -> Iterator[Sample]:
    """Of each model that ran lately: its newest day's performance with its interval, and its alarm."""
    yield from _alarms(project, performance_days(tables), "performance")
    for where, _, rows in _newest(project, tables):
        for kind in ("realised", "estimated"):
            for family, column in (
                (families.PERFORMANCE, kind),
                (families.PERFORMANCE_LOWER, f"{kind}_lower"),
                (families.PERFORMANCE_UPPER, f"{kind}_upper"),
            ):
                value = rows[column].iloc[0]
                if pd.notna(value):
                    yield family(value, *_labels(project, where), kind)


def midnight(day: date) -> float:
    """The beginning of a UTC day, in seconds since 1970."""
    return datetime.combine(day, time(), UTC).timestamp()


def _alarms(project: Project, days: Mapping[Where, list[Day]], signal: str) -> Iterator[Sample]:
    newest = max((each.day for found in days.values() for each in found), default=None)
    for where, found in days.items():
        state = judge_days(found, project.drift.days)[-1]
        if newest is None or not _counts(project, state.day, newest):
            continue
        labels = (*_labels(project, where), signal)
        yield families.ALARM(state.since is not None, *labels)
        if state.since is not None:
            yield families.ALARM_SINCE(midnight(state.since), *labels)


def _newest(
    project: Project, tables: Mapping[date, pd.DataFrame]
) -> Iterator[tuple[Where, date, pd.DataFrame]]:
    """The rows of each model's newest day, if that still counts."""
    found = {
        where: (day, rows) for day, table in tables.items() if len(table) for where, rows in by_model(table)
    }
    for where, (day, rows) in found.items():
        if _counts(project, day, max(tables)):
            yield where, day, rows


def _counts(project: Project, day: date, newest: date) -> bool:
    return day >= newest - timedelta(project.drift.days.within)


def _labels(project: Project, where: Where) -> tuple[str, str, str]:
    return project.project, where.device_group, model_label(where.model_sha256)
