"""What is in production, what was, what was judged, and what promotion waits for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resources.models.records import (
    EVERYWHERE,
    ModelNotFound,
    ModelVersion,
    RegisteredModel,
    group_option,
    version_on,
)
from visionops_assets.champions.disagreements import incomplete
from visionops_assets.champions.history import (
    CHANGES,
    HistoryEntry,
    Interval,
    Production,
    groups,
    production,
    read_history,
)
from visionops_assets.champions.registered_model import Answer, Registry
from visionops_assets.common.error_levels import level_left, next_turn
from visionops_assets.evaluation.verdict_store import ListedVerdict, listed, read_ledger
from visionops_assets.pages.page import Block, Facts, Heading, Page, Paragraph, Table
from visionops_assets.promotion.production_change import intervals_table
from visionops_assets.promotion.promote import Approval, waiting_of

SHOWN = 10


@dataclass(frozen=True)
class Status:
    """One project on one device group; `elsewhere` is what ran on the others.

    `level_left` is what the next challenger's claim is tested at; `labels_needed` what the last INSUFFICIENT verdict
    against this champion asks for; `waiting` the passes that a person has to approve or reject; `ready` what the
    release of a hold promotes; `rules` is the digest of the gate's rules now.
    """

    project: str
    champion: ModelVersion | None
    now: Production
    others: Mapping[str, int | None]
    elsewhere: tuple[Production, ...]
    entries: tuple[HistoryEntry, ...]
    verdicts: tuple[ListedVerdict, ...]
    answers: Mapping[str, Answer]
    waiting: tuple[ListedVerdict, ...]
    ready: ListedVerdict | None
    level_left: float
    labels_needed: int | None
    rules: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What `visionops status --json` prints; times are ISO 8601 in UTC."""
        since = self.now.since
        return {
            "project": self.project,
            "group": self.now.group,
            "champion": None
            if self.champion is None
            else {
                "version": self.champion.version,
                "sha256": self.champion.weights_sha256,
                "onnx_sha256": self.champion.onnx_sha256,
                "partition": self.champion.partition,
                "since": _iso(since.when) if since else None,
            },
            "groups": dict(self.others),
            "history": [entry.model_dump(mode="json", by_alias=True) for entry in self.entries],
            "in_production": [_interval(each) for each in self.now.intervals],
            "verdicts": [self._verdict(each) for each in self.verdicts],
            "waiting": [each.identity for each in self.waiting],
            "ready": None if self.ready is None else self.ready.identity,
            "hold": _entry(self.now.held_by),
            "incomplete": _entry(self.now.incomplete),
            "moved_by_hand": self.now.foreign,
            "level_left": self.level_left,
            "labels_needed": self.labels_needed,
        }

    def to_text(self) -> str:
        """For a terminal."""
        return self.to_page().to_text()

    def to_page(self, *, unfinished: bool = True) -> Page:
        """As a page; without `unfinished`, it leaves out the change that did not complete, as where that was said."""
        return Page(f"{self.project}: {self._headline()}", tuple(self._blocks(unfinished)))

    def _verdict(self, each: ListedVerdict) -> dict[str, Any]:
        answer = self.answers.get(each.identity)
        return {
            **each.model_dump(mode="json", exclude={"format", "sha256"}),
            "answer": None if answer is None else answer.kind,
        }

    def _headline(self) -> str:
        if self.now.version is not None and self.champion is None:
            return f"version {self.now.version} in production, but it was deleted from the registry"
        if self.champion is None and self.now.foreign and self.now.named is not None:
            return f"version {self.now.named} in production by the history, and none by MLflow"
        if self.champion is None:
            retired = self.now.since
            return "no model in production" + (f" since {retired.when:%Y-%m-%d %H:%M} UTC" if retired else "")
        since = f" since {self.now.since.when:%Y-%m-%d %H:%M} UTC" if self.now.since else ""
        return f"version {self.champion.version} in production{since}"

    def _blocks(self, unfinished: bool) -> list[Block]:
        blocks: list[Block] = [Paragraph(text) for text in self._notices(unfinished)]
        facts: list[tuple[str, str]] = []
        if self.champion is not None:
            facts += [
                ("dataset version", self.champion.partition or "not recorded"),
                ("weights", self.champion.weights_sha256),
            ]
        if self.champion is None and not self.now.foreign:
            facts.append(("next challenger", "judged by the floors alone, as a first champion"))
        else:
            facts.append(("significance left", f"{self.level_left:.3g} for the next challenger"))
        if self.labels_needed is not None:
            facts.append(("labels asked for", f"{self.labels_needed:,} more"))
        facts += [
            (f"on {group}", f"version {version}")
            for group, version in self.others.items()
            if version is not None
        ]
        blocks.append(Facts(tuple(facts)))
        if self.verdicts:
            blocks += [Heading("Decisions, newest first"), self._verdict_table()]
        if self.now.intervals:
            blocks += [Heading("In production, newest first"), intervals_table(self.now.intervals)]
        for other in self.elsewhere:
            if other.intervals:
                heading = Heading(f"In production on {other.group}, newest first")
                blocks += [heading, intervals_table(other.intervals)]
        others = [entry for entry in self.entries if entry.kind not in CHANGES]
        if others:
            rows = tuple((entry.sentence(),) for entry in reversed(others[-SHOWN:]))
            blocks += [Heading("Holds and releases, newest first"), Table(("change",), rows)]
        return blocks

    def _verdict_table(self) -> Table:
        rows = []
        for each in reversed(self.verdicts[-SHOWN:]):
            answer = self.answers.get(each.identity)
            said = f"{answer.kind} by {answer.who}" if answer is not None else ""
            # The outcome has a column of its own.
            why = each.summary.removeprefix(f"{each.outcome}: ")
            other = self.rules is not None and each.rules not in (None, self.rules)
            outcome = f"{each.outcome}, under other rules" if other else each.outcome
            rows.append((each.identity[:12], each.partition or "–", outcome, said, why))
        return Table(("verdict", "dataset version", "outcome", "answer", "why"), tuple(rows))

    def _notices(self, unfinished: bool) -> list[str]:
        notices = []
        if self.now.held_by is not None:
            notices.append(
                f"ON HOLD. {self.now.held_by.sentence()}. "
                f"`visionops release {self.project}{group_option(self.now.group)} --why TEXT` lifts it{self._next()}."
            )
        if self.now.incomplete is not None and unfinished:
            answer = self.answers.get(self.now.incomplete.verdict or "")
            way_back = incomplete(self.project, self.now.incomplete, answer).way_back
            notices.append(f"NOT COMPLETED. {self.now.incomplete.sentence()}. {way_back}.")
        if self.now.foreign:
            notices.append("MOVED BY HAND. MLflow says something else than the history of changes.")
        notices += [
            f"WAITING. Verdict {each.identity[:12]} ({each.partition or 'no partition'}) passed: "
            f"`visionops approve {self.project} {each.identity[:12]}{group_option(self.now.group)}` or "
            f"`visionops reject {self.project} "
            f"{each.identity[:12]} --why TEXT`."
            for each in self.waiting
        ]
        ready = self.ready if self.now.held_by is None and not self.waiting else None
        if ready is not None and ready.outcome == "PASS":
            notices.append(
                f"READY. Verdict {ready.identity[:12]} ({ready.partition or 'no partition'}) waits for nobody's answer "
                f"now: `visionops approve {self.project} {ready.identity[:12]}` promotes it, and so does `visionops "
                "tick` while its dataset version is the newest."
            )
        return notices

    def _next(self) -> str:
        if self.ready is None:
            return ""
        return f" and promotes verdict {self.ready.identity[:12]} ({self.ready.partition or 'no partition'})"


def status(
    registry: Registry,
    project: str,
    *,
    alpha: float,
    approval: Approval = "auto",
    group: str = EVERYWHERE,
    rules: str | None = None,
) -> Status:
    """Read a project's state. `alpha`, `approval` and the digest of `rules` are those of its gate. Raises
    `RegistryUnavailable`."""
    model = registry.models.get(project)
    now, champion = production(model, group), _champion(registry, model, group)
    sha256 = champion.weights_sha256 if champion is not None else None
    if now.foreign and now.named is not None and now.named in model.remembered:
        # What the next challenger has to beat, once somebody has said what runs.
        sha256 = model.remembered[now.named].weights_sha256
    verdicts = tuple(listed(model.tags).values())
    waiting = waiting_of(model, sha256, group)
    against = [each for each in verdicts if each.champion == sha256]
    elsewhere = [other for other in groups(model) if other != group]
    asked = [each.labels_needed for each in against if each.outcome == "INSUFFICIENT"]
    return Status(
        project=project,
        champion=champion,
        now=now,
        others={other: version_on(model, other) for other in elsewhere},
        elsewhere=tuple(production(model, other) for other in elsewhere),
        entries=tuple(entry for entry in read_history(model.tags).entries if entry.group == group),
        verdicts=verdicts,
        answers=waiting.answers,
        waiting=waiting.unanswered() if approval == "manual" and not now.foreign else (),
        ready=waiting.ready(approval) if group == EVERYWHERE and not now.foreign else None,
        level_left=level_left(alpha, next_turn(sha256, read_ledger(model.tags))),
        labels_needed=asked[-1] if asked else None,
        rules=rules,
    )


def _champion(registry: Registry, model: RegisteredModel, group: str) -> ModelVersion | None:
    version = version_on(model, group)
    if version is None:
        return None
    try:
        return registry.models.version(model.project, version)
    except ModelNotFound:
        return None


def _interval(each: Interval) -> dict[str, Any]:
    return {
        "version": each.version,
        "from": _iso(each.start),
        "until": _iso(each.end) if each.end is not None else None,
    }


def _entry(entry: HistoryEntry | None) -> dict[str, Any] | None:
    return None if entry is None else entry.model_dump(mode="json", by_alias=True)


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="seconds")
