"""What lies with a registered version: where its data came from, how it was made, how it was judged."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resources.models.records import EVERYWHERE, ArtifactMissing, ModelNotFound, ModelVersion, RegisteredModel
from visionops_assets.champions.disagreements import disagreements
from visionops_assets.champions.history import HistoryEntry, Production, nothing_runs, production
from visionops_assets.champions.registered_model import Registry
from visionops_assets.common.errors import VerdictMissing
from visionops_assets.common.tables import frame_from_parquet
from visionops_assets.dataset.versions.manifest import Manifest
from visionops_assets.evaluation.run_records import recorded_manifest, recorded_provenance
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.verdict_store import ListedVerdict, listed, load, predictions_path
from visionops_assets.training.provenance import Provenance

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Made:
    """A version with its provenance and manifest; None for what its run does not hold."""

    version: ModelVersion
    provenance: Provenance | None
    manifest: Manifest | None


@dataclass(frozen=True)
class Evidence:
    """All that is known of why a version is, or was, in production.

    `arrival` is the entry that promoted it, `decision` what the list of decisions says of its verdict, `unclear` what
    MLflow says differently of what runs, with what leads back. `verdicts` are all decisions on this model, oldest
    first, None where the file of one is gone.
    """

    made: Made
    now: Production
    arrival: HistoryEntry | None
    verdict: Verdict | None
    predecessor: Made | None
    decision: ListedVerdict | None = None
    unclear: str = ""
    verdicts: tuple[tuple[ListedVerdict, Verdict | None], ...] = ()

    @property
    def in_production(self) -> bool:
        """Whether this version runs now."""
        return self.made.version.version == self.now.version

    def to_json(self) -> dict[str, Any]:
        """What `visionops why --json` prints: the entry that promoted it, and its verdicts, oldest first."""
        version = self.made.version
        return {
            "version": version.version,
            "in_production": self.in_production,
            "dataset_version": version.partition,
            "run_id": version.run_id,
            "weights_sha256": version.weights_sha256,
            "promoted": None if self.arrival is None else self.arrival.model_dump(mode="json", by_alias=True),
            "replaced": None if self.predecessor is None else self.predecessor.version.version,
            "unclear": self.unclear,
            "verdict": None if self.verdict is None else json.loads(self.verdict.to_json()),
            "verdicts": [each.model_dump(mode="json") for each, _ in self.verdicts],
        }


def gather_evidence(
    registry: Registry, project: str, version: int | None = None, group: str = EVERYWHERE
) -> Evidence:
    """The evidence of a version, by default of the one in production.

    Raises `ModelNotFound` where nothing is in production or the version does not exist, `RegistryUnavailable`.
    """
    model = registry.models.get(project)
    now = production(model, group)
    unclear = next((each.sentence() for each in disagreements(registry, project, group)), "")
    wanted = version if version is not None else now.version
    if wanted is None and now.named is not None and model.has(now.named):
        wanted = now.named
    if wanted is None and unclear:
        raise ModelNotFound(unclear)
    if wanted is None:
        fix = (
            f": `visionops status {project}` says what was judged, `visionops tick {project}` trains what was not"
            if group == EVERYWHERE
            else ""
        )
        raise ModelNotFound(f"{nothing_runs(model, group)}{fix}")
    arrival = now.arrival(wanted)
    before = arrival.from_version if arrival is not None else None
    judged = arrival
    if arrival is not None and arrival.kind == "delivery":
        # Its own verdict is that of a rollout.
        judged = production(model).arrival(wanted) or arrival
    decision = listed(model.tags).get(judged.verdict or "") if judged is not None else None
    made = _made(registry, registry.models.version(project, wanted))
    weights = made.version.weights_sha256
    every = [each for each in listed(model.tags).values() if each.challenger == weights]
    return Evidence(
        made=made,
        now=now,
        arrival=arrival,
        verdict=_verdict(registry, model, decision),
        predecessor=None if before is None else _predecessor(registry, project, before),
        decision=decision,
        unclear=unclear,
        verdicts=tuple((each, _verdict(registry, model, each)) for each in every),
    )


def predictions_of_verdict(registry: Registry, evidence: Evidence) -> "pd.DataFrame | None":
    """The predictions table that the verdict rests on, this model as its challenger; None where it is gone."""
    if evidence.decision is None:
        return None
    try:
        path = predictions_path(evidence.decision.identity)
        return frame_from_parquet(registry.artifacts.read_bytes(evidence.decision.run_id, path))
    except ArtifactMissing:
        return None


def _made(registry: Registry, version: ModelVersion) -> Made:
    return Made(
        version, recorded_provenance(registry, version.run_id), recorded_manifest(registry, version.run_id)
    )


def _predecessor(registry: Registry, project: str, version: int) -> Made | None:
    try:
        return _made(registry, registry.models.version(project, version))
    except ModelNotFound:
        return None


def _verdict(registry: Registry, model: RegisteredModel, decision: ListedVerdict | None) -> Verdict | None:
    try:
        return None if decision is None else load(registry, model.project, decision)
    except VerdictMissing:
        return None
