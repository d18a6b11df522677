"""What the stored days of a project say of its champions, for whoever decides what to do."""

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import pandas as pd

from resources.artifact_store import ArtifactStore
from resources.lakefs.client import LakeFSResource
from resources.model_records import ModelVersion
from visionops_assets.monitoring.acting.comparison import Captured, captured_rows
from visionops_assets.monitoring.acting.standing import Champion, Champions
from visionops_assets.monitoring.judgement import Day
from visionops_assets.monitoring.model_days import Where, drift_days, performance_days
from visionops_assets.monitoring.reference import NoReference, dataset_of
from visionops_assets.monitoring.stored_days import StoredDays, stored_dates
from visionops_assets.project import Project


@dataclass
class DaysOfChampions:
    """The tables that assets of production days stored, each read once."""

    project: Project
    lakefs: LakeFSResource
    artifacts: ArtifactStore
    _days: dict[str, StoredDays] = field(default_factory=dict)
    _told: dict[tuple[str, date], dict[Where, list[Day]]] = field(default_factory=dict)

    def told(self, asset: str, day: date) -> dict[Where, list[Day]]:
        """What the tables of `drift_report` or `performance` until a day say of every model, a day each."""
        read = {"drift_report": drift_days, "performance": performance_days}[asset]
        found: dict[Where, list[Day]] = {}
        for each, table in self.stored(asset).until(day).items():
            if (asset, each) not in self._told:
                self._told[asset, each] = read({each: table})
            for where, of_day in self._told[asset, each].items():
                found.setdefault(where, []).extend(of_day)
        return found

    def captured(self, champion: Champion, before: ModelVersion, running: Champions, day: date) -> Captured:
        """What a champion and the version before it can be compared on."""
        share = self.project.production.captures.share
        trained_on = self._trained_on(champion.version, before)
        return captured_rows(self._rows_of(champion, running, day), share, trained_on)

    def stored(self, asset: str) -> StoredDays:
        """The days of one asset."""
        if asset not in self._days:
            self._days[asset] = StoredDays(self.artifacts, self.project.project, asset)
        return self._days[asset]

    def newest(self, day: date, today: date) -> date:
        """The newest day that has a log, of those from `day` to today."""
        reports = self.stored("drift_report")
        for later in reversed(stored_dates(self.artifacts, self.project.project, "drift_report")):
            if not day <= later <= today:
                continue
            table = reports.at(later)
            if table is not None and len(table):
                return later
        return day

    def wanted(self, group: str, since: date, running: Champions, day: date) -> tuple[list[str], list[str]]:
        """The images that the days of a group's alarm want labelled, and those days."""
        first = since - timedelta(self.project.drift.days.of)
        images, days = list[str](), list[str]()
        for back in range((day - first).days, -1, -1):
            each = day - timedelta(back)
            wanted = self.stored("labels_wanted").at(each)
            if wanted is None or wanted.empty:
                continue
            mine = [
                digest
                for digest, model, device_group in zip(
                    wanted["image_sha256"], wanted["model_sha256"], wanted["device_group"], strict=True
                )
                if (champion := running.of(Where(model, device_group))) is not None
                and champion.group == group
            ]
            images += mine
            days += [each.isoformat()] if mine else []
        return list(dict.fromkeys(images)), days

    def _rows_of(self, champion: Champion, running: Champions, day: date) -> list[pd.DataFrame]:
        """The champion's rows of the log, a table a day, since it came and as long as days count."""
        first = day - timedelta(self.project.drift.days.within)
        if champion.now.since is not None:
            first = max(first, champion.now.since.when.date())
        days = []
        for back in range((day - first).days, -1, -1):
            log = self.stored("inference_log").at(day - timedelta(back))
            if log is None or log.empty:
                continue
            mine = log[log["model_sha256"] == champion.version.weights_sha256]
            here = [running.on(group) is champion for group in mine["device_group"]]
            days.append(mine[np.array(here, bool)])
        return [rows for rows in days if len(rows)]

    def _trained_on(self, *versions: ModelVersion) -> set[str]:
        """The SHA-256 of the images that a version was trained on or chosen by, as far as its data is known."""
        found: set[str] = set()
        for version in versions:
            try:
                dataset = dataset_of(self.project, version, self.lakefs, self.artifacts)
            except NoReference:
                continue
            found |= set(dataset.split("train", "val")["sha256"])
        return found
