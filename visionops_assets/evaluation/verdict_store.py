"""Verdicts as stored: written once as an artifact of the challenger's run, decisions listed on the model, the
latest of a dataset version found by its address (ids only).

A verdict lies under its identity, decisions and what-ifs apart, so that a what-if never stands where a decision is
looked for. The list entry is written after the file and holds its digest: an entry means a whole file.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from resources.models.records import ArtifactMissing, RunNotFound
from resources.nearest import there_are
from resources.storage import ArtifactStore
from visionops_assets.champions import registered_model
from visionops_assets.champions.registered_model import Entry, Outcome, Registry
from visionops_assets.common.error_levels import Decision, turn_of
from visionops_assets.common.errors import VerdictMissing
from visionops_assets.common.keys import verdict_key
from visionops_assets.common.run_tags import how_to_have_a_decision
from visionops_assets.evaluation.verdict import Kind, Verdict
from visionops_assets.evaluation.verdict_wording import verdict_summary
from visionops_assets.training.challenger import Challenger

LISTED = "visionops.verdict."
SUMMARY_LENGTH = 1000
_SHORT = 12


@dataclass(frozen=True)
class VerdictAddress:
    """A verdict by its identity, with the challenger's run and what was trained.

    `rules` is the digest of the gate's rules that it was made under; one of an earlier release does not say.
    """

    identity: str
    verdict: Outcome
    run_id: str
    training_version: str
    rules: str | None = None


def write_address(artifacts: ArtifactStore, verdict: Verdict, challenger: Challenger, partition: str) -> None:
    """Let a dataset version name this verdict as its latest of its kind."""
    address = VerdictAddress(
        verdict.identity,
        verdict.verdict,
        challenger.run_id,
        challenger.training_version,
        verdict.rules_digest,
    )
    artifacts.write_json(verdict_key(verdict.kind, verdict.project, partition), asdict(address))


def read_address(artifacts: ArtifactStore, kind: Kind, project: str, partition: str) -> VerdictAddress | None:
    """The latest decision or what-if of a dataset version, or None. Raises `ArtifactDamaged`."""
    key = verdict_key(kind, project, partition)
    if not artifacts.exists(key):
        return None
    try:
        return VerdictAddress(**artifacts.read_json(key))
    except TypeError as error:
        raise artifacts.damaged(key, "it holds no address of a verdict") from error


class DecisionEntry(Entry):
    """Format 1: a challenger that was given its place k before it was judged, and what was claimed of it."""

    format: Literal[1] = 1
    champion: str | None
    challenger: str
    k: int
    verdict: str
    claim: str | None = None


class ListedVerdict(BaseModel):
    """Format 1: what the list on the registered model says of one decision.

    `sha256` is of its file, `rules` the digest of the rules that it was made under.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    identity: str
    outcome: Outcome
    run_id: str
    partition: str | None
    challenger: str
    champion: str | None
    k: int
    alpha_k: float
    labels_needed: int | None
    when: datetime
    summary: str
    sha256: str
    rules: str | None = None


@dataclass(frozen=True)
class Reservation:
    """The place of a challenger among those judged against one champion; `new` if it was just taken."""

    k: int
    new: bool


def reserve(
    registry: Registry,
    project: str,
    *,
    challenger: str,
    champion: str | None,
    verdict: str,
    claim: str | None = None,
) -> Reservation:
    """Take the next place for a claim before it is judged; one that was made of this challenger before keeps its own.

    A model judged against itself takes none: it can replace nothing.

    `challenger` and `champion` are SHA-256 of weights, `verdict` the identity that the verdict will have, `claim` that
    of the rules. Only decisions reserve. Raises `PromotionLocked`, `RegistryUnavailable`.
    """
    with registry.lock(project):
        ledger = registered_model.read_entries(
            registry.models.get(project).tags, registered_model.DECISION_ENTRIES, DecisionEntry
        )
        same = [each for each in ledger.entries if (each.champion, each.challenger) == (champion, challenger)]
        for entry in same:
            if claim in (entry.claim, None):
                return Reservation(entry.k, new=False)
        # What was claimed before claims were written down is taken to be the first that is asked again.
        written = {each.k for each in same if each.claim is not None}
        kept = next((each.k for each in same if each.claim is None and each.k not in written), None)
        # A place that cannot be read was still spent, perhaps against this champion.
        spent = len(ledger.unreadable)
        k = kept or turn_of(challenger, champion, decisions(ledger.entries), claim) + spent
        if challenger == champion:
            return Reservation(k, new=False)
        entry = DecisionEntry(
            number=ledger.next_number,
            champion=champion,
            challenger=challenger,
            k=k,
            verdict=verdict,
            claim=claim,
        )
        registry.models.set_tag(
            project,
            registered_model.tag_name(registered_model.DECISION_ENTRIES, entry.number),
            entry.to_json(),
        )
        return Reservation(k, new=kept is None)


def decisions(entries: tuple[DecisionEntry, ...]) -> list[Decision]:
    """The ledger as `common.error_levels` takes it, oldest first."""
    return [Decision(entry.champion, entry.challenger, entry.claim) for entry in entries]


def read_ledger(tags: Mapping[str, str]) -> list[Decision]:
    """All decisions of a project, oldest first, from its registered model's tags."""
    return decisions(
        registered_model.read_entries(tags, registered_model.DECISION_ENTRIES, DecisionEntry).entries
    )


def verdict_path(identity: str, kind: Kind) -> str:
    """The artifact that holds a verdict."""
    return f"verdicts/{identity}/{kind}.json"


def predictions_path(identity: str) -> str:
    """The artifact of the challenger's run that holds the answers a verdict rests on."""
    return f"verdicts/{identity}/predictions.parquet"


def store(registry: Registry, verdict: Verdict, *, run_id: str, partition: str | None = None) -> Verdict:
    """Keep a verdict with the challenger's run; the one of the same identity and kind that is kept already wins.

    Returns what is stored. Raises `RunNotFound`, `PromotionLocked`, `RegistryUnavailable`.
    """
    # Two runs that judge the same pair at once must not leave one's file under the other's list entry.
    with registry.lock(verdict.project):
        found = find(registry, verdict.project, run_id, verdict.identity, verdict.kind)
        if found is not None:
            return found
        content = verdict.to_json().encode()
        registry.artifacts.put_bytes(run_id, verdict_path(verdict.identity, verdict.kind), content)
        if verdict.kind == "decision":
            entry = _listing(verdict, content, run_id, partition)
            registry.models.set_tag(verdict.project, LISTED + verdict.identity, entry.model_dump_json())
    return verdict


def find(
    registry: Registry, project: str, run_id: str, identity: str, kind: Kind | None = None
) -> Verdict | None:
    """A stored verdict of a run: the decision, else the what-if, or only the `kind` asked for.

    None also where the file of a decision is gone or was altered: it has to be judged again.
    """
    if kind != "what_if":
        entry = listed(registry.models.get(project).tags).get(identity)
        if entry is not None:
            try:
                return load(registry, project, entry)
            except VerdictMissing:
                return None
        if kind == "decision":
            return None
    path = verdict_path(identity, "what_if")
    if not registry.artifacts.exists(run_id, path):
        return None
    return Verdict.from_json(registry.artifacts.read_bytes(run_id, path))


def load(registry: Registry, project: str, entry: ListedVerdict) -> Verdict:
    """The verdict of a list entry. Raises `VerdictMissing` if its file is gone, was altered or is no decision."""
    path = verdict_path(entry.identity, "decision")
    again = f"evaluate the challenger again: {how_to_have_a_decision(project)}"
    try:
        content = registry.artifacts.read_bytes(entry.run_id, path)
    except (ArtifactMissing, RunNotFound) as error:
        raise VerdictMissing(f"{error}, which {project} lists as a decision; {again}") from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise VerdictMissing(
            f"{path} of run {entry.run_id} is not the file that {project} lists (its SHA-256 differs); {again}"
        )
    try:
        verdict = Verdict.from_json(content)
    except ValueError as error:
        raise VerdictMissing(f"{path} of run {entry.run_id}: {error}") from error
    if verdict.kind != "decision" or verdict.identity != entry.identity or verdict.project != project:
        raise VerdictMissing(
            f"{path} of run {entry.run_id} is not decision {entry.identity} of {project}; {again}"
        )
    return verdict


def listed(tags: Mapping[str, str]) -> dict[str, ListedVerdict]:
    """All decisions of a project by identity, oldest first; entries that cannot be read are left out."""
    found = []
    for name, value in tags.items():
        if name.startswith(LISTED):
            try:
                found.append(ListedVerdict.model_validate_json(value))
            except ValidationError:
                continue
    return {entry.identity: entry for entry in sorted(found, key=lambda entry: entry.when)}


def listed_decision(tags: Mapping[str, str], project: str, identity: str) -> ListedVerdict:
    """The list entry of one decision, by its identity or a unique beginning of it. Raises `VerdictMissing`."""
    matching = [entry for entry in listed(tags).values() if entry.identity.startswith(identity)]
    if len(matching) == 1 and identity:
        return matching[0]
    if matching and identity:
        raise VerdictMissing(f"{identity} begins {len(matching)} decisions of {project}: write more of it")
    known = [each[:_SHORT] for each in listed(tags)]
    raise VerdictMissing(
        f"{project} has no decision {identity or '(no id)'}; {there_are(identity, known)}. A what-if cannot promote; "
        f"to ask for a decision, {how_to_have_a_decision(project)}"
    )


def _listing(verdict: Verdict, content: bytes, run_id: str, partition: str | None) -> ListedVerdict:
    labels = verdict.evidence.labels if verdict.evidence else None
    return ListedVerdict(
        identity=verdict.identity,
        outcome=verdict.verdict,
        run_id=run_id,
        partition=partition,
        challenger=verdict.challenger.weights_sha256,
        champion=verdict.champion.weights_sha256 if verdict.champion else None,
        k=verdict.k,
        alpha_k=verdict.alpha_k,
        labels_needed=labels.labels_to_collect if labels else None,
        when=verdict.created_at,
        summary=shortened(verdict_summary(verdict)),
        sha256=hashlib.sha256(content).hexdigest(),
        rules=verdict.rules_digest,
    )


def shortened(text: str) -> str:
    """A summary that fits a tag, whatever else stands in it."""
    return text if len(text) <= SUMMARY_LENGTH else f"{text[: SUMMARY_LENGTH - 1]}…"
