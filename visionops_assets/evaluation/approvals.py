"""What people answered to a verdict: approve, reject, or promote against it. Kept for ever, the last one counts.

An answer changes nothing in production by itself: promotion reads it and still checks everything else.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from visionops_assets import journal
from visionops_assets.evaluation.verdict import Outcome
from visionops_assets.evaluation.verdicts import listed_decision
from visionops_assets.journal import Entry
from visionops_assets.refusals import ReasonMissing, VerdictNotPassed
from visionops_assets.registry import Registry

AnswerKind = Literal["approve", "reject", "override"]


class Answer(Entry):
    """Format 1. `outcome` is the verdict's, which an override leaves as it is."""

    format: Literal[1] = 1
    kind: AnswerKind
    verdict: str
    outcome: Outcome
    who: str
    when: datetime
    why: str


def approve(
    registry: Registry, project: str, verdict: str, *, who: str, when: datetime, why: str = ""
) -> Answer:
    """Let a PASS go to production where the project says `approval: manual`.

    `verdict` is its identity or a unique beginning. Raises `VerdictMissing`, and `VerdictNotPassed` for any
    other outcome, which takes an override.
    """
    return _record(registry, project, "approve", verdict, who, when, why or "approved")


def reject(registry: Registry, project: str, verdict: str, *, who: str, when: datetime, why: str) -> Answer:
    """Keep a verdict from promoting, whatever it says. Raises `VerdictMissing`, `ReasonMissing`."""
    return _record(registry, project, "reject", verdict, who, when, why)


def override(registry: Registry, project: str, verdict: str, *, who: str, when: datetime, why: str) -> Answer:
    """Let a challenger go to production against its verdict, marked so for ever.

    Only a decision can be overridden. Raises `VerdictMissing`, `ReasonMissing`.
    """
    return _record(registry, project, "override", verdict, who, when, why)


def answer_to(tags: Mapping[str, str], project: str, verdict: str) -> Answer | None:
    """The answer that counts for a verdict, or None. Raises `HistoryUnreadable`: it may be a rejection."""
    answers = journal.read(tags, journal.ANSWERS, Answer)
    journal.require_readable(answers, project)
    given = [entry for entry in answers.entries if entry.verdict == verdict]
    return given[-1] if given else None


def require_reason(who: str, why: str) -> None:
    """Raise `ReasonMissing` unless a change by hand says who makes it and why."""
    if not who.strip():
        raise ReasonMissing("nobody is named as making this change: set VISIONOPS_ACTOR")
    if not why.strip():
        raise ReasonMissing("a change by hand is recorded with its reason: add --why TEXT")


def _record(
    registry: Registry, project: str, kind: AnswerKind, verdict: str, who: str, when: datetime, why: str
) -> Answer:
    require_reason(who, why)
    with registry.lock(project):
        tags = registry.models.get(project).tags
        entry = listed_decision(tags, project, verdict)
        if kind == "approve" and entry.outcome != "PASS":
            raise VerdictNotPassed(
                f"decision {entry.identity[:12]} of {project} is {entry.outcome}, only PASS is approved: "
                "to promote against it, `visionops promote --override --why TEXT`"
            )
        last = answer_to(tags, project, entry.identity)
        if last is not None and (last.kind, last.who, last.why) == (kind, who, why):
            return last
        number = journal.read(tags, journal.ANSWERS, Answer).next_number
        answer = Answer(
            number=number,
            kind=kind,
            verdict=entry.identity,
            outcome=entry.outcome,
            who=who,
            when=when,
            why=why,
        )
        registry.models.set_tag(project, journal.tag_name(journal.ANSWERS, number), answer.to_json())
        return answer
