"""What people answered to a verdict: approve, reject, or promote against it. Kept for ever, the last one counts.

An answer changes nothing in production by itself: promotion reads it and still checks everything else.
"""

from dataclasses import asdict, dataclass
from datetime import datetime

from resources.models.records import EVERYWHERE, RegisteredModel, version_on
from visionops_assets.champions import registered_model
from visionops_assets.champions.history import production
from visionops_assets.champions.registered_model import Answer, AnswerKind, Registry, answer_to
from visionops_assets.common.errors import PromotionRefused, ReasonMissing, VerdictNotPassed
from visionops_assets.evaluation.verdict_store import ListedVerdict, listed_decision


def approve(
    registry: Registry,
    project: str,
    verdict: str,
    *,
    who: str,
    when: datetime,
    why: str = "",
    group: str = EVERYWHERE,
) -> Answer:
    """Let a PASS go to production where the project says `approval: manual`, or to one device group alone.

    `verdict` is its identity or a unique beginning. Raises `VerdictMissing`, and `VerdictNotPassed` for any
    other outcome, which takes an override.
    """
    return _record(registry, project, verdict, _Given("approve", who, when, why or "approved", group))


def reject(registry: Registry, project: str, verdict: str, *, who: str, when: datetime, why: str) -> Answer:
    """Keep a verdict from promoting, whatever it says. Raises `VerdictMissing`, `ReasonMissing`."""
    return _record(registry, project, verdict, _Given("reject", who, when, why))


def override(registry: Registry, project: str, verdict: str, *, who: str, when: datetime, why: str) -> Answer:
    """Let a challenger go to production against its verdict, marked so for ever.

    Only a decision can be overridden. Raises `VerdictMissing`, `ReasonMissing`, and `PromotionRefused` where its
    challenger runs already.
    """
    return _record(registry, project, verdict, _Given("override", who, when, why))


def require_reason(who: str, why: str) -> None:
    """Raise `ReasonMissing` unless a change by hand says who makes it and why."""
    if not who.strip():
        raise ReasonMissing("nobody is named as making this change: set VISIONOPS_ACTOR")
    if not why.strip():
        raise ReasonMissing("a change by hand is recorded with its reason: add --why TEXT")


@dataclass(frozen=True)
class _Given:
    """An answer before it is known of which verdict."""

    kind: AnswerKind
    who: str
    when: datetime
    why: str
    group: str = EVERYWHERE


def _record(registry: Registry, project: str, verdict: str, given: _Given) -> Answer:
    require_reason(given.who, given.why)
    with registry.lock(project):
        model = registry.models.get(project)
        tags = model.tags
        entry = listed_decision(tags, project, verdict)
        if given.kind == "approve" and entry.outcome != "PASS":
            raise VerdictNotPassed(
                f"decision {entry.identity[:12]} of {project} is {entry.outcome}, only PASS is approved: "
                f"to promote against it, `visionops override {project} {entry.identity[:12]} --why TEXT`"
            )
        last = answer_to(tags, project, entry.identity, given.group)
        words = (given.kind, given.who, given.why, given.group)
        same = last is not None and (last.kind, last.who, last.why, last.group) == words
        if last is not None and same and not _left_since(model, last):
            return last
        if given.kind == "override":
            _require_not_running(registry, model, entry)
        number = registered_model.read_entries(tags, registered_model.ANSWER_ENTRIES, Answer).next_number
        answer = Answer(number=number, verdict=entry.identity, outcome=entry.outcome, **asdict(given))
        registry.models.set_tag(
            project, registered_model.tag_name(registered_model.ANSWER_ENTRIES, number), answer.to_json()
        )
        return answer


def _left_since(model: RegisteredModel, answer: Answer) -> bool:
    """Whether production changed after an answer, to another model: said again, it is another answer."""
    since = production(model, answer.group).since
    return since is not None and since.when > answer.when and since.verdict != answer.verdict


def _require_not_running(registry: Registry, model: RegisteredModel, entry: ListedVerdict) -> None:
    version = version_on(model, EVERYWHERE)
    # What was deleted in MLflow is told by the promotion.
    if version is None or not model.has(version):
        return
    if registry.models.version(model.project, version).weights_sha256 != entry.challenger:
        return
    needless = "; a PASS needs no override" if entry.outcome == "PASS" else ""
    raise PromotionRefused(
        f"version {version} of {model.project}, which decision {entry.identity[:12]} is about, is in production "
        f"already: there is nothing to override{needless}"
    )
