"""Acts on the present production day: decides, records what is to be done with its evidence, does it.

| killed after | what is left | what the next run does |
| --- | --- | --- |
| the evidence | a file that nothing names | writes it again |
| the entry | an action that the history of production does not name | does it, if that champion still runs |
| the rollback or hold | the whole action | nothing |
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

from resources.artifact_store import ArtifactStore
from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from visionops_assets.champions.history import HistoryEntry, production, read_history
from visionops_assets.monitoring.acting.actions import (
    SHORT,
    Action,
    evidence_key,
    read_actions,
    record_once,
)
from visionops_assets.monitoring.acting.comparing import Comparing
from visionops_assets.monitoring.acting.days import DaysOfChampions
from visionops_assets.monitoring.acting.deciding import (
    Compared,
    Noticed,
    Step,
    decide,
    only_reported,
)
from visionops_assets.monitoring.acting.standing import Champion, Champions, champions, noticed
from visionops_assets.monitoring.acting.wording import done_in_words
from visionops_assets.project import Project
from visionops_assets.promotion.rollback import hold, rollback
from visionops_assets.refusals import ChampionMoved, ChampionUnclear, NothingToRollBackTo


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
        found = noticed(drift, performance, day, running, rules)
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
        found = noticed(drift, performance, day, running, rules)
        compared = [
            each for champion in running.own.values() if (each := self._compared(champion, running, day))
        ]
        on_hold = [champion.group for champion in running.own.values() if champion.now.on_hold]
        for step in decide(found, compared, self._recorded(), rules, day, on_hold):
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
        """Whether the history of production names the action, or what it was about no longer runs."""
        model = self.registry.models.get(self.project.project)
        now = production(model, action.group)
        holds = [entry for entry in read_history(model.tags).entries if entry.kind == "hold"]
        changes = [each.entry for each in now.intervals]
        return now.version != action.version or any(
            _reference(action) in entry.why for entry in [*holds, *changes]
        )

    def _carry_out(self, action: Action) -> None:
        """Roll back or hold. A champion that moved meanwhile is left alone."""
        if action.dry_run or action.kind not in ("rollback", "hold"):
            return
        project, group = self.project.project, action.group
        why = f"{action.why} ({_reference(action)})"
        if action.kind == "hold":
            hold(self.registry, project=project, who=self.who, why=why, when=self.now, group=group)
            return
        try:
            rollback(
                self.registry,
                project=project,
                who=self.who,
                why=why,
                when=self.now,
                leaving=action.version,
                group=group,
            )
        except (ChampionMoved, ChampionUnclear, NothingToRollBackTo) as error:
            self._notes.append(f"not rolled back: {error}")

    def _compared(self, champion: Champion, running: Champions, day: date) -> Compared | None:
        if champion.before is None:
            return None
        captured = self._days.captured(champion, champion.before, running, day)
        comparing = Comparing(self.project, self.lakefs, self.registry, self.artifacts, self.who, self.now)
        return comparing.newest(champion, champion.before, captured, day)

    def _running(self) -> Champions:
        name = self.project.project
        versions = {version.version: version for version in self.registry.models.versions(name)}
        return champions(self.registry.models.get(name), versions)

    def _recorded(self) -> Sequence[Action]:
        return read_actions(self.registry.models.get(self.project.project).tags).entries


def _reference(action: Action) -> str:
    """How the history of production names an action."""
    return f"action {action.identity[:SHORT]}"
