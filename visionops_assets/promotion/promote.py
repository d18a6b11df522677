"""A judged challenger becomes champion, or a clear refusal. Fails closed: every condition is checked here.

Besides, which verdicts wait to be carried out: for a person's answer, or for the release of a hold. The sensor
takes a dataset version whose PASS waits for done, so whoever approves or releases promotes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from resources.models.records import (
    EVERYWHERE,
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_DAGSTER_RUN,
    TAG_ONNX,
    TAG_PROVENANCE,
    TAG_WEIGHTS,
    ArtifactMissing,
    RegisteredModel,
    Run,
    group_option,
    version_on,
    weights_artifact,
)
from visionops_assets.champions import registered_model
from visionops_assets.champions.disagreements import require_agreement
from visionops_assets.champions.history import production, read_history
from visionops_assets.champions.registered_model import Answer, Registry, answer_to
from visionops_assets.common.errors import (
    ApprovalNeeded,
    ChampionMoved,
    DigestMismatch,
    OnHold,
    Rejected,
    VerdictMissing,
    VerdictNotPassed,
)
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.verdict_store import ListedVerdict, listed, listed_decision, load, shortened
from visionops_assets.evaluation.verdict_wording import verdict_summary
from visionops_assets.promotion.production_change import (
    Attribution,
    Change,
    OnStep,
    WantedChange,
    held_group,
    note_of,
    put_in_production,
    record_change,
    unheard,
)

Approval = Literal["auto", "manual"]


def promote(
    registry: Registry,
    *,
    project: str,
    verdict: str,
    who: str,
    when: datetime,
    run_id: str | None = None,
    approval: Approval = "auto",
    group: str = EVERYWHERE,
    on_step: OnStep = unheard,
) -> Change:
    """Make the challenger of a decision champion of a device group.

    `verdict` is the decision's identity or a unique beginning of it; `run_id` the challenger's run, by default
    the one that was judged. For a challenger that is champion already this succeeds and changes nothing.
    Killed or failed at any step it can be run again, and blocks nothing; `change` has the table. `on_step`
    hears each of `change.STEPS` when it is done.

    Raises `VerdictMissing`, `VerdictNotPassed`, `ChampionMoved`, `ChampionUnclear`, `OnHold`, `Rejected`,
    `ApprovalNeeded`, `DigestMismatch`, `HistoryUnreadable` (all `PromotionRefused`); `PromotionLocked`,
    `RegistryUnavailable`.
    """
    with registry.lock(project):
        model = registry.models.get(project)
        now = production(model, group)
        champion = champion_of(registry, model, group)
        if run_id is not None and _is_champion(registry.runs.get(run_id).tags.get(TAG_WEIGHTS), champion):
            return Change(version_on(model, group), changed=False, entry=now.since)
        listing = listed_decision(model.tags, project, verdict)
        if _is_champion(listing.challenger, champion):
            return Change(version_on(model, group), changed=False, entry=now.since)
        asked = load(registry, project, listing)
        registered_model.require_readable(read_history(model.tags), project)
        answer = answer_to(model.tags, project, asked.identity, group)
        run = registry.runs.get(run_id or listing.run_id)
        _require_pass(asked, answer)
        _require_same_champion(asked, champion, version_on(model, group))
        require_released(model, group)
        _require_answer(asked, answer, approval)
        tags = _checked_files(registry, run, asked)
        on_step("checked")
        version = registry.models.create_version(project, run.id, tags)
        on_step("registered")
        overridden = answer is not None and answer.kind == "override"
        entry = record_change(
            registry,
            model,
            WantedChange(
                kind="override" if overridden else "promotion",
                group=group,
                to=version.version,
                by=Attribution(
                    answer.who if answer is not None else who,
                    when,
                    answer.why if answer is not None and overridden else shortened(verdict_summary(asked)),
                ),
                verdict=asked.identity,
                from_version=None if group == EVERYWHERE else version_on(model, group),
            ),
        )
        on_step("recorded")
        put_in_production(registry, model, entry, on_step)
        return Change(version.version, changed=True, entry=entry, note=note_of(model, group))


def champion_of(registry: Registry, model: RegisteredModel, group: str = EVERYWHERE) -> str | None:
    """SHA-256 of the weights a challenger is judged against on a device group, or None without a champion.

    Raises `ChampionUnclear` where the history names another champion than MLflow, or MLflow one that VisionOps did not
    register.
    """
    require_agreement(registry, model, group)
    version = version_on(model, group)
    return None if version is None else registry.models.version(model.project, version).weights_sha256


def _is_champion(challenger: str | None, champion: str | None) -> bool:
    return bool(challenger) and challenger == champion


def _require_pass(verdict: Verdict, answer: Answer | None) -> None:
    if verdict.may_promote() or (answer is not None and answer.kind == "override"):
        return
    raise VerdictNotPassed(
        f"challenger {verdict.challenger.weights_sha256[:12]} of {verdict.project} did not pass. "
        f"{verdict_summary(verdict)}"
    )


def _require_same_champion(verdict: Verdict, champion: str | None, version: int | None) -> None:
    against = verdict.champion.weights_sha256 if verdict.champion else None
    if against == champion:
        return
    present = f"version {version} ({(champion or '')[:12]})" if version is not None else "no model"
    raise ChampionMoved(
        f"champion moved, evaluate again: {verdict.project} was judged against "
        f"{against[:12] if against else 'no champion'}, now {present} is champion"
    )


def require_released(model: RegisteredModel, group: str) -> None:
    """Raise `OnHold` where a challenger must not be promoted on a device group: it is on hold, or all is."""
    own, every = production(model, group), production(model)
    if group != EVERYWHERE and own.held_by is not None:
        raise OnHold(held_group(model.project, own))
    if every.held_by is not None:
        raise OnHold(
            f"promotion of {model.project} is on hold ({every.held_by.sentence()}): "
            f"`visionops release {model.project} --why TEXT` lifts it"
        )


def _require_answer(verdict: Verdict, answer: Answer | None, approval: Approval) -> None:
    if answer is not None and answer.kind == "reject":
        raise Rejected(
            f"{answer.who} rejected verdict {verdict.identity[:12]} of {verdict.project}: {answer.why}"
        )
    if approval == "manual" and answer is None:
        raise ApprovalNeeded(
            f"verdict {verdict.identity[:12]} of {verdict.project} is {verdict.verdict} and waits for a person: "
            f"`visionops approve {verdict.project} {verdict.identity[:12]}` or `visionops reject {verdict.project} "
            f"{verdict.identity[:12]} --why TEXT`"
        )


def _checked_files(registry: Registry, run: Run, verdict: Verdict) -> dict[str, str]:
    again = f"train again, or restore the artifacts of run {run.id}"
    if not run.finished:
        raise DigestMismatch(
            f"run {run.id} is {run.status}, not FINISHED: its files may be incomplete; {again}"
        )
    for path, tag, digest in (
        (weights_artifact(run.tags), TAG_WEIGHTS, verdict.challenger.weights_sha256),
        (ONNX_ARTIFACT, TAG_ONNX, verdict.challenger.onnx_sha256 or run.tags.get(TAG_ONNX, "")),
    ):
        try:
            found = registry.artifacts.sha256(run.id, path)
        except ArtifactMissing as error:
            raise DigestMismatch(f"{error}; {again}") from error
        if found != digest or run.tags.get(tag) != digest:
            raise DigestMismatch(
                f"{path} of run {run.id} has SHA-256 {found[:12]}, its tag {tag} says "
                f"{run.tags.get(tag, 'nothing')[:12]}, and {digest[:12]} was judged; {again}"
            )
    return {
        **_digest_of_record(registry, run, again),
        **{
            key: value
            for key, value in run.tags.items()
            if key.startswith("visionops.") or key == TAG_DAGSTER_RUN
        },
    }


def _digest_of_record(registry: Registry, run: Run, again: str) -> dict[str, str]:
    """The tag by which a reproduction knows the record that was registered."""
    recorded = run.tags.get(TAG_PROVENANCE)
    try:
        found = registry.artifacts.sha256(run.id, PROVENANCE_ARTIFACT)
    except ArtifactMissing as error:
        if recorded is None:
            return {}
        raise DigestMismatch(f"{error}; {again}") from error
    # Trained before runs said it: from now on, it is what is registered.
    if recorded is not None and recorded != found:
        raise DigestMismatch(
            f"{PROVENANCE_ARTIFACT} of run {run.id} has SHA-256 {found[:12]}, its tag {TAG_PROVENANCE} says "
            f"{recorded[:12]}; {again}"
        )
    return {TAG_PROVENANCE: found}


@dataclass(frozen=True)
class WaitingVerdicts:
    """Verdicts that could still promote, oldest first, and what was answered to them.

    They were made against the present champion and since it came: one from before a rollback is the verdict that
    was just found wrong, or one that was passed over.
    """

    project: str
    verdicts: tuple[ListedVerdict, ...]
    answers: Mapping[str, Answer]
    group: str = EVERYWHERE

    def unanswered(self) -> tuple[ListedVerdict, ...]:
        """The passes that nobody approved, rejected or overrode."""
        return tuple(each for each in self.verdicts if each.identity not in self.answers)

    def ready(self, approval: Approval) -> ListedVerdict | None:
        """The newest that needs no answer, or has one that lets it go to production."""
        ready = [each for each in self.verdicts if approval == "auto" or each.identity in self.answers]
        return ready[-1] if ready else None

    def why_none_is_ready(self, approval: Approval) -> str:
        """Why a release promotes nothing, in words."""
        unanswered = self.unanswered() if approval == "manual" else ()
        if not unanswered:
            return "no challenger that passed waits; the next PASS is promoted"
        names = ", ".join(f"{each.identity[:12]} ({each.partition})" for each in unanswered)
        newest = unanswered[-1].identity[:12]
        return f"nobody approved what passed, {names}: `visionops approve {self.project} {newest}` promotes the newest"

    def only(self) -> ListedVerdict:
        """The one verdict to approve or reject. Raises `VerdictMissing` where none waits, or several do."""
        if len(self.verdicts) == 1:
            return self.verdicts[0]
        if not self.verdicts:
            on = "" if self.group == EVERYWHERE else f" on {self.group}"
            status = f"`visionops status {self.project}{group_option(self.group)}`"
            raise VerdictMissing(
                f"no PASS of {self.project} waits for an answer{on}: {status} lists all verdicts"
            )
        names = ", ".join(f"{each.identity[:12]} ({each.partition})" for each in self.verdicts)
        raise VerdictMissing(f"{len(self.verdicts)} verdicts of {self.project} wait, name one: {names}")


def waiting_of(
    model: RegisteredModel, champion_sha256: str | None, group: str = EVERYWHERE
) -> WaitingVerdicts:
    """The verdicts of a project that wait on a device group. `champion_sha256` is of the weights of what it runs."""
    own = production(model, group)
    now = own if own.version is not None else production(model, EVERYWHERE)
    answers = registered_model.answers_on(model.tags, group)
    carried_out = {each.entry.verdict: each.entry.when for each in now.intervals}

    def waits(each: ListedVerdict) -> bool:
        answer = answers.get(each.identity)
        lets_it = answer.kind != "reject" if answer is not None else each.outcome == "PASS"
        last_word = max(each.when, answer.when) if answer is not None else each.when
        # What was left again comes back only by an answer given since.
        done = each.identity in carried_out and last_word <= carried_out[each.identity]
        return (
            lets_it
            and each.champion == champion_sha256 != each.challenger
            and not done
            and (now.since is None or last_word >= now.since.when)
        )

    verdicts = tuple(each for each in listed(model.tags).values() if waits(each))
    return WaitingVerdicts(model.project, verdicts, answers, group)


def newest_decision(model: RegisteredModel, champion_sha256: str | None) -> ListedVerdict:
    """The newest decision against the present champion, whatever it says. Raises `VerdictMissing`."""
    against = [
        each
        for each in listed(model.tags).values()
        if each.champion == champion_sha256 and each.challenger != champion_sha256
    ]
    if not against:
        raise VerdictMissing(f"{model.project} has no decision against the present champion: name one")
    return against[-1]
