"""What people answered to a verdict: approve, reject, or promote against it. Kept for ever, the last one counts.

An answer changes nothing in production by itself: promotion reads it and still checks everything else.
"""

from datetime import datetime

from visionops_assets.champions import registered_model
from visionops_assets.champions.registered_model import Answer, AnswerKind, Registry, answer_to
from visionops_assets.common.errors import ReasonMissing, VerdictNotPassed
from visionops_assets.evaluation.verdict_store import listed_decision


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
                f"to promote against it, `visionops override {project} --why TEXT`"
            )
        last = answer_to(tags, project, entry.identity)
        if last is not None and (last.kind, last.who, last.why) == (kind, who, why):
            return last
        number = registered_model.read_entries(tags, registered_model.ANSWER_ENTRIES, Answer).next_number
        answer = Answer(
            number=number,
            kind=kind,
            verdict=entry.identity,
            outcome=entry.outcome,
            who=who,
            when=when,
            why=why,
        )
        registry.models.set_tag(
            project, registered_model.tag_name(registered_model.ANSWER_ENTRIES, number), answer.to_json()
        )
        return answer
