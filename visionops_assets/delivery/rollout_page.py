"""A rollout on a page: where it stands, the verdict in words with its evidence, its waves, who refused it, and what a
person may type. `rollout status` prints it, and Dagster shows it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from resources.models.records import RegisteredModel
from resources.storage import ArtifactStore
from visionops_assets.config.project import Project
from visionops_assets.delivery.rollout_looks import Look, stored_look
from visionops_assets.pages.page import Block, Bullets, Heading, Page, Paragraph, Sentence, Table
from visionops_assets.rollout.e_values import SAFETY_AT, SILENCE_AT
from visionops_assets.rollout.rollouts import Entry, Rollout, folded, newest, read_entries

# Of devices that refused it, and of others that are named; `--json` has them all.
SHOWN = 20


@dataclass(frozen=True)
class RolloutNow:
    """A rollout with its entries and the last look at it, if there was one yet."""

    project: str
    rollout: Rollout
    entries: tuple[Entry, ...]
    look: Look | None

    @property
    def state(self) -> str:
        """In one word: how it ended, or `held`, `paused` or `in progress`."""
        if self.rollout.ended:
            return self.rollout.ended
        return "held" if self.rollout.held else "paused" if self.rollout.paused else "in progress"

    def sentence(self) -> str:
        """Where it stands, in one."""
        rollout, look = self.rollout, self.look
        before = f" instead of version {rollout.base}" if rollout.base is not None else ""
        what = f"{rollout.group}: version {rollout.version}{before}"
        if rollout.ended:
            return f"{what}: {rollout.ended}, {rollout.why or 'no more is said'}"
        wave = f"wave {rollout.wave + 1} of {len(rollout.waves)}"
        if look is not None:
            wave += f" ({look.verdict.evidence.in_wave} of {look.verdict.evidence.devices} devices)"
        said = look.decision.why if look is not None else "not looked at yet"
        paused = "paused; " if rollout.paused else ""
        held = f"waits for a person: {rollout.held}; " if rollout.held else ""
        return f"{what}, {wave}: {paused}{held}{said}"

    def ways(self) -> list[str]:
        """What a person may type now, each with what it does."""
        name, rollout = self.project, self.rollout
        group_of = f"{name} --group {rollout.group}"
        if rollout.ended == "complete":
            return [f"undo: `visionops rollback {group_of} --why TEXT`"]
        if rollout.ended:
            again = f"`visionops rollout start {group_of} --model-version {rollout.version} --why TEXT` tries it again"
            if rollout.end is None or rollout.end.kind != "fail":
                return [again]
            return [
                f"undo: `visionops release {group_of} --why TEXT` lifts the hold of {rollout.group}",
                again,
            ]
        return [
            f"`visionops rollout abort {group_of} --why TEXT` brings its devices back to version {rollout.base}",
            f"`visionops rollout override {group_of} --why TEXT` goes on without what it lacks",
            f"`visionops rollout {'resume' if rollout.paused else 'pause'} {group_of}`",
        ]

    def page(self) -> Page:
        """All of it."""
        rollout, look = self.rollout, self.look
        blocks: list[Block] = [Paragraph(self.sentence())]
        if look is not None:
            verdict = look.verdict
            blocks += [
                Heading(f"Verdict: {verdict.word}"),
                Bullets(tuple(verdict.reasons)),
                *([Bullets(tuple(f"lacks: {each}" for each in verdict.missing))] if verdict.missing else []),
                *([Bullets(tuple(f"look: {each}" for each in verdict.watch))] if verdict.watch else []),
                Paragraph(_latency(look)),
            ]
        blocks += [Heading("Waves"), self._waves()]
        if look is not None and look.failures:
            said = [each.sentence() for each in look.failures[:SHOWN]]
            more = len(look.failures) - len(said)
            blocks += [
                Heading("Devices that refused it"),
                Bullets((*said, *([f"{more} more"] if more > 0 else []))),
            ]
        if look is not None and look.strangers:
            blocks += [Heading("Reports that count for nothing"), Bullets(look.strangers[:SHOWN])]
        blocks += [Heading("What may be done"), Bullets(tuple(map(Sentence, self.ways())))]
        return Page(f"Rollout {rollout.id}: {self.state}", tuple(blocks))

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        rollout, look = self.rollout, self.look
        told: dict[str, Any] = {
            "rollout": rollout.id,
            "group": rollout.group,
            "version": rollout.version,
            "base": rollout.base,
            "state": self.state,
            "says": self.sentence(),
            "wave": rollout.wave + 1,
            "waves": list(look.waves) if look is not None else [],
            "why": rollout.why,
            "entries": [{**vars(each), "when": each.when.isoformat()} for each in self.entries],
            "ways": self.ways(),
        }
        if look is None:
            return {**told, "verdict": None}
        return {
            **told,
            "at": look.at.isoformat(),
            "verdict": look.verdict.word,
            "reasons": list(look.verdict.reasons),
            "missing": list(look.verdict.missing),
            "watch": list(look.verdict.watch),
            "decision": asdict(look.decision),
            "failures": [asdict(each) for each in look.failures],
            "strangers": list(look.strangers),
            "looks": [dict(each) for each in look.history],
        }

    def _waves(self) -> Table:
        began = {
            0: self.rollout.began,
            **{each.wave: each.when for each in self.entries if each.kind == "wave"},
        }
        sizes = self.look.waves if self.look is not None else ()
        rows = []
        for number, share in enumerate(self.rollout.waves):
            since = began.get(number)
            state = "is on" if number == self.rollout.wave and not self.rollout.ended else "was on"
            rows.append(
                (
                    str(number + 1),
                    str(sizes[number]) if number < len(sizes) else f"{share:.1%}",
                    f"{since:%Y-%m-%d %H:%M}" if since is not None else "",
                    state if since is not None else "to come" if not self.rollout.ended else "never began",
                )
            )
        return Table(("wave", "devices", "since (UTC)", "state"), tuple(rows))


def _latency(look: Look) -> str:
    known = look.verdict.evidence
    base = "not known yet" if known.base_ms is None else f"{known.base_ms:.1f} ms"
    if known.candidate_ms is None:
        return f"99 of 100 answers of the candidate take: not known yet; of the base: {base}."
    return f"99 of 100 answers of the candidate take up to {known.candidate_ms:.1f} ms; of the base: {base}."


def rollouts_now(project: Project, model: RegisteredModel, store: ArtifactStore) -> list[RolloutNow]:
    """All rollouts of a project, oldest first. Raises `BadEntry`, `BadVerdict` and what the store raises."""
    entries, _ = read_entries(model.tags)
    return [_now(project, rollout, entries, store) for rollout in folded(entries)]


def current_rollouts(project: Project, model: RegisteredModel, store: ArtifactStore) -> list[RolloutNow]:
    """Those in progress, and of other groups the last one, oldest first; no look at any other is read. Raises what
    `rollouts_now` does."""
    entries, _ = read_entries(model.tags)
    rollouts = folded(entries)
    return [
        _now(project, rollout, entries, store)
        for rollout in rollouts
        if not rollout.ended or newest(rollouts, rollout.group) is rollout
    ]


def _now(project: Project, rollout: Rollout, entries: Sequence[Entry], store: ArtifactStore) -> RolloutNow:
    own = tuple(each for each in entries if each.rollout == rollout.id)
    return RolloutNow(project.project, rollout, own, stored_look(project, store, rollout.id))


def evidence_png(look: Look, waves: Sequence[Entry]) -> bytes:
    """The evidence against the candidate at each look that was news, beside the thresholds at which it goes back."""
    from datetime import datetime

    from visionops_assets.evaluation.presentation import new_figure, small_png

    figure, axes = new_figure(6.4, 2.6)
    begun = datetime.fromisoformat(look.history[0]["at"])

    def minutes(at: datetime) -> float:
        return (at - begun).total_seconds() / 60

    times = [minutes(datetime.fromisoformat(each["at"])) for each in look.history]
    for name, label, threshold, colour in (
        ("log_safety", "safety", SAFETY_AT, "tab:red"),
        ("log_silence", "silence", SILENCE_AT, "tab:blue"),
    ):
        # What is without a value is beyond all.
        values = [math.exp(min(20.0, 20.0 if each[name] is None else each[name])) for each in look.history]
        axes.plot(times, values, marker="o", markersize=3, label=label, color=colour)
        axes.axhline(threshold, linestyle="--", linewidth=1, color=colour)
    for entry in waves:
        axes.axvline(minutes(entry.when), linewidth=1, color="lightgrey")
    axes.set_yscale("log")
    axes.set_xlabel("minutes since the first look (lines: a wave begins)")
    axes.set_ylabel("evidence (E)")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return small_png(figure)
