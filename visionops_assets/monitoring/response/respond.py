"""Acts on the present production day: finds what is to be done, records it with its evidence, does it.

| killed after | what is left | what the next run does | | --- | --- | --- | | the evidence | a file that nothing
names | writes it again | | the entry | an action that the history of production does not name | does it, if that
champion still runs | | the rollback or hold | the whole action | nothing |
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from resources.lakefs.client import LakeFSResource
from resources.models.records import ModelVersion
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from visionops_assets.champions.history import HistoryEntry, production, read_history
from visionops_assets.common.errors import ChampionMoved, ChampionUnclear, NothingToRollBackTo
from visionops_assets.config.project import Project
from visionops_assets.monitoring.model_days import Day, Where, drift_days, performance_days
from visionops_assets.monitoring.production_day import StoredDays, stored_dates
from visionops_assets.monitoring.reference import NoReference, dataset_of
from visionops_assets.monitoring.response.actions import (
    SHORT,
    Action,
    evidence_key,
    read_actions,
    record_once,
)
from visionops_assets.monitoring.response.champion_comparison import Captured, Comparisons, captured_rows
from visionops_assets.monitoring.response.policy import (
    Champion,
    Champions,
    Compared,
    Noticed,
    Step,
    champions_of,
    done_in_words,
    next_steps,
    notice,
    only_reported,
)
from visionops_assets.promotion.production_change import Attribution, Change
from visionops_assets.promotion.rollback import hold, left_behind, rollback, take_along


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


@dataclass(frozen=True)
class Response:
    """What a day led to: what was noticed of the champions, why nothing may be done (`reported`), and the actions.

    `rollbacks` are those that brought what runs now, by whomever: the UI has to know of them.
    """

    day: date
    noticed: Sequence[Noticed]
    reported: str
    actions: Sequence[Action] = ()
    notes: Sequence[str] = ()
    rollbacks: Sequence[HistoryEntry] = ()


@dataclass
class Responding:
    """The response to production days of one project. `who` acts; `today` is the UTC day."""

    project: Project
    lakefs: LakeFSResource
    registry: ModelRegistry
    artifacts: ArtifactStore
    who: str
    now: datetime
    _notes: list[str] = field(default_factory=list)

    @cached_property
    def _days(self) -> DaysOfChampions:
        return DaysOfChampions(self.project, self.lakefs, self.artifacts)

    def respond(self, day: date) -> Response:
        """Act on a day, or only say why not. Raises what lakeFS, MLflow and the models' files raise."""
        rules = self.project.drift
        drift, performance = (self._days.told(name, day) for name in ("drift_report", "performance"))
        running = self._running()
        found = notice(drift, performance, day, running, rules)
        today = self.now.date()
        newest, clock_behind = self._days.newest(day, today), self.project.production.clock_behind
        reported = only_reported(day, newest, today, clock_behind)
        if reported:
            return Response(day, found, reported)
        self._notes = []
        last = max((action.number for action in self._recorded()), default=0)
        begun = self._finish(day)
        # What was begun may have changed what runs.
        running = self._running() if begun else running
        found = notice(drift, performance, day, running, rules)
        compared = [
            each for champion in running.own.values() if (each := self._compared(champion, running, day))
        ]
        on_hold = [champion.group for champion in running.own.values() if champion.now.on_hold]
        for step in next_steps(found, compared, self._recorded(), rules, day, on_hold):
            self._take(step, running, day)
        taken = [*begun, *(action for action in self._recorded() if action.number > last)]
        since = [champion.now.since for champion in self._running().own.values()]
        rollbacks = [entry for entry in since if entry is not None and entry.kind == "rollback"]
        return Response(day, found, "", taken, tuple(self._notes), rollbacks)

    def _take(self, step: Step, running: Champions, day: date) -> None:
        """Record one step with its evidence, and do it."""
        champion, dry = running.own[step.group], self.project.drift.dry_run
        identity = step.identity(self.project.project, dry_run=dry)
        images: list[str] = []
        days: list[str] = []
        if step.kind == "labels":
            images, days = self._days.wanted(step.group, step.day, running, day)
            if not images:
                self._notes.append(f"no captured image of {step.group} waits for a label")
                return
        evidence: dict[str, Any] = {"format": 1, "noticed": step.why, "signal": step.signal, "images": images}
        if step.verdict is not None:
            evidence["verdict"] = step.verdict.model_dump(mode="json")
        self.artifacts.write_json(evidence_key(self.project.project, identity), evidence)
        action = record_once(
            self.registry,
            self.project.project,
            Action(
                identity=identity,
                kind=step.kind,
                signal=step.signal,
                group=step.group,
                model_sha256=step.model_sha256,
                version=champion.version.version,
                day=step.day,
                when=self.now,
                who=self.who,
                why=step.why,
                done=done_in_words(self.project.project, step.kind, champion, days, len(images)),
                images=len(images) or None,
                about=step.verdict.identity if step.verdict is not None else None,
                dry_run=dry,
            ),
        )
        self._carry_out(action)

    def _finish(self, day: date) -> list[Action]:
        """Do what was recorded and not done: the process that recorded it was killed."""
        oldest = day - timedelta(self.project.drift.days.cool_down)
        begun = [
            action
            for action in self._recorded()
            if action.kind in ("rollback", "hold")
            and not action.dry_run
            and action.day >= oldest
            and not self._is_done(action)
        ]
        for action in begun:
            self._carry_out(action)
        return begun

    def _is_done(self, action: Action) -> bool:
        """Whether the history of production names the action, or what it was about no longer runs; and no group that
        follows is left behind."""
        model = self.registry.models.get(self.project.project)
        now = production(model, action.group)
        if now.since is not None and _name_in_history(action) in now.since.why:
            made = Change(now.version, changed=False, entry=now.since)
            return not left_behind(model, made, self.project.delivery.following)
        holds = [entry for entry in read_history(model.tags).entries if entry.kind == "hold"]
        changes = [each.entry for each in now.intervals]
        return now.version != action.version or any(
            _name_in_history(action) in entry.why for entry in [*holds, *changes]
        )

    def _carry_out(self, action: Action) -> None:
        """Roll back or hold. A champion that moved meanwhile is left alone."""
        if action.dry_run or action.kind not in ("rollback", "hold"):
            return
        project, group = self.project.project, action.group
        why = f"{action.why} ({_name_in_history(action)})"
        if action.kind == "hold":
            hold(self.registry, project=project, by=Attribution(self.who, self.now, why), group=group)
            return
        try:
            change = rollback(
                self.registry,
                project=project,
                by=Attribution(self.who, self.now, why),
                leaving=action.version,
                group=group,
            )
            take_along(
                self.registry,
                change,
                project=project,
                follow=self.project.delivery.following,
                by=Attribution(self.who, self.now, why),
            )
        except (ChampionMoved, ChampionUnclear, NothingToRollBackTo) as error:
            self._notes.append(f"not rolled back: {error}")

    def _compared(self, champion: Champion, running: Champions, day: date) -> Compared | None:
        if champion.before is None:
            return None
        captured = self._days.captured(champion, champion.before, running, day)
        comparing = Comparisons(self.project, self.lakefs, self.registry, self.artifacts, self.who, self.now)
        return comparing.newest(champion, champion.before, captured, day)

    def _running(self) -> Champions:
        name = self.project.project
        versions = {version.version: version for version in self.registry.models.versions(name)}
        return champions_of(self.registry.models.get(name), versions)

    def _recorded(self) -> Sequence[Action]:
        return read_actions(self.registry.models.get(self.project.project).tags).entries


def _name_in_history(action: Action) -> str:
    """How the history of production names an action."""
    return f"action {action.identity[:SHORT]}"
