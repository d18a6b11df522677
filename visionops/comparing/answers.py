"""What both models answer on one holdout: as it was stored when they were judged, else scored now.

Scoring is a what-if: it spends no significance, and nothing of it is stored with a verdict.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from resources.lakefs.client import MAIN, LakeFSResource
from resources.models.records import ArtifactMissing
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore, Scratch
from visionops.comparing.sides import ComparisonError, Side
from visionops_assets.common.keys import commit_prefix
from visionops_assets.common.tables import frame_from_parquet
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.dataset_version import DatasetVersion, named_version
from visionops_assets.dataset.versions.manifest import Manifest, read_manifest
from visionops_assets.evaluation import verdict_store
from visionops_assets.evaluation.context import LEAK_COLUMNS, GateContext
from visionops_assets.evaluation.evaluation_task import evaluation_task
from visionops_assets.evaluation.scoring import Scorer
from visionops_assets.evaluation.turned import WonAndLost, won_and_lost
from visionops_assets.evaluation.verdict import Evidence, ModelReference, Verdict
from visionops_assets.evaluation.verdict_store import predictions_path, read_address
from visionops_assets.inference.predictions import holdout_digest


@dataclass(frozen=True)
class Measured:
    """Both models on one holdout, A in the challenger's place and B in the champion's.

    `verdict` is the stored one that these answers belong to, whichever of the two was the challenger. `seen` counts
    the holdout images that A and B were trained on; a sound split has none. `turned` are the images that A won and
    lost, which `commit` has.
    """

    evidence: Evidence
    holdout_digest: str
    dataset_version: str | None
    source: Literal["stored", "scored"]
    seen: tuple[int, int]
    turned: WonAndLost
    commit: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Answers:
    """Finds or makes the answers of two models of a project; `say` gets a line on long work."""

    project: Project
    registry: ModelRegistry
    lakefs: LakeFSResource
    artifacts: ArtifactStore
    scratch: Scratch
    say: Callable[[str], None]

    def measure(self, a: Side, b: Side, on: str | None = None) -> Measured:
        """Compare two models on the holdout of the dataset version `on`.

        By default on the holdout that both were judged on last, else on that of the newest dataset version. Raises
        `ComparisonError`, `ModelFileError`, `ArtifactMissing`, and what lakeFS raises.
        """
        if a.model is None or b.model is None:
            raise ComparisonError("two models are needed to compare answers")
        version = None if on is None else self._version(on)
        wanted = None if version is None else self._digest(version)
        for stored in self._stored_verdicts(a, b):
            table = self._stored(stored)
            if table is None or (wanted is not None and holdout_digest(table, self._slices) != wanted):
                continue
            verdict = stored.verdict(self.registry, self.project.project)
            table = table if stored.challenger == a.model.weights_sha256 else exchanged(table)
            measured = self._evidence_of(verdict, a.model) or self._measured(table, a.model, b.model)
            if isinstance(measured, Evidence):
                digest = holdout_digest(table, self._slices)
                commit = commit_prefix(stored.partition) if stored.partition else MAIN
                return Measured(
                    measured,
                    digest,
                    stored.partition,
                    "stored",
                    self._seen(table, a, b),
                    won_and_lost(table, _meant(a), _meant(b)),
                    commit,
                    verdict,
                )
        version = version or self._version(None)
        table = self._scored(version, a, b)
        measured = self._measured(table, a.model, b.model)
        if isinstance(measured, str):
            raise ComparisonError(f"the answers cannot be compared: {measured}")
        return Measured(
            measured,
            holdout_digest(table, self._slices),
            version.partition,
            "scored",
            self._seen(table, a, b),
            won_and_lost(table, _meant(a), _meant(b)),
            version.commit.id,
        )

    def _stored_verdicts(self, a: Side, b: Side) -> "Iterator[_Stored]":
        """Every judgement that is kept of the two, newest first: decisions, then what-ifs."""
        assert a.model is not None and b.model is not None
        pair = {a.model.weights_sha256, b.model.weights_sha256}
        decisions = verdict_store.listed(self.registry.models.get(self.project.project).tags)
        for entry in reversed(decisions.values()):
            if {entry.challenger, entry.champion} == pair:
                yield _Stored(entry.identity, entry.run_id, entry.challenger, entry.partition)
        for one, other in ((a, b), (b, a)):
            if one.partition is None or one.model is None or one.model.run_id is None:
                continue
            address = read_address(self.artifacts, "what_if", self.project.project, one.partition)
            if address is None or address.run_id != one.model.run_id:
                continue
            found = verdict_store.find(self.registry, self.project.project, address.run_id, address.identity)
            champion = found.champion if found is not None else None
            if champion and other.model and champion.weights_sha256 == other.model.weights_sha256:
                yield _Stored(address.identity, address.run_id, one.model.weights_sha256, one.partition)

    def _stored(self, stored: "_Stored") -> pd.DataFrame | None:
        try:
            content = self.registry.artifacts.read_bytes(stored.run_id, predictions_path(stored.identity))
        except ArtifactMissing:
            return None
        return frame_from_parquet(content)

    def _scored(self, version: DatasetVersion, a: Side, b: Side) -> pd.DataFrame:
        task, holdout = evaluation_task(self.project.task), version.split("holdout")
        if holdout.empty:
            raise ComparisonError(
                f"dataset version {version.partition} has no holdout samples: name another with --on"
            )
        scorer = Scorer(
            task, self.project.repository, version.commit.id, self.lakefs, self.registry, self.scratch
        )
        answers = []
        for name, side in (("A", a), ("B", b)):
            model = side.model
            assert model is not None and model.run_id is not None and model.onnx_sha256 is not None
            self.say(f"{name}, {side.name}, answers {len(holdout):,} holdout images")
            answers.append(scorer.answers(holdout, model.run_id, model.onnx_sha256, name))
        return task.table(holdout, challenger=answers[0], champion=answers[1], slices=self._slices)

    def _measured(self, table: pd.DataFrame, a: ModelReference, b: ModelReference) -> Evidence | str:
        """The numbers, or why there are none."""
        task, rules = evaluation_task(self.project.task), self.project.gate
        context = GateContext(
            project=self.project.project,
            classes=self.project.classes,
            challenger=a,
            champion=b,
            holdout_digest="",
            holdout_share=1.0,
            leaks=pd.DataFrame(columns=list(LEAK_COLUMNS)),
            kind="what_if",
            k=1,
            created_at=datetime.now(UTC),
            task=self.project.task,
        )
        faults = task.faults(table, rules, context)
        absence = None if faults else task.absence(table)
        if faults or absence:
            return absence or "; ".join(faults)
        return task.measure(table, rules, context)

    def _seen(self, table: pd.DataFrame, a: Side, b: Side) -> tuple[int, int]:
        held = pa.array(table["sha256"])
        return _trained_on(a.manifest, held, self.artifacts), _trained_on(b.manifest, held, self.artifacts)

    def _evidence_of(self, verdict: Verdict | None, a: ModelReference) -> Evidence | None:
        """The numbers of a verdict on A by the present rules: measuring again would give the same."""
        if verdict is None or verdict.challenger.weights_sha256 != a.weights_sha256:
            return None
        return verdict.evidence if verdict.rules_digest == self.project.gate.digest() else None

    def _version(self, name: str | None) -> DatasetVersion:
        return named_version(self.lakefs, self.artifacts, self.project, name)

    def _digest(self, version: DatasetVersion) -> str:
        return holdout_digest(version.split("holdout"), self._slices)

    @property
    def _slices(self) -> tuple[str, ...]:
        return self.project.gate.slices


@dataclass(frozen=True)
class _Stored:
    """One judgement: `challenger` is the SHA-256 of the weights that stood in the challenger's place."""

    identity: str
    run_id: str
    challenger: str
    partition: str | None

    def verdict(self, registry: ModelRegistry, project: str) -> Verdict | None:
        """What the gate said, where its file is still there."""
        return verdict_store.find(registry, project, self.run_id, self.identity)


def _meant(side: Side) -> float | None:
    """From which score on the boxes of a side are meant, where it says so."""
    return side.provenance.metrics.get("min_score") if side.provenance is not None else None


def exchanged(table: pd.DataFrame) -> pd.DataFrame:
    """A predictions table with the models in each other's place."""
    swap = {"champion_": "challenger_", "challenger_": "champion_"}
    names = {
        column: other + column.removeprefix(prefix)
        for column in table.columns
        for prefix, other in swap.items()
        if column.startswith(prefix)
    }
    return table.rename(columns=names)


def _trained_on(manifest: Manifest | None, held: pa.Array, store: ArtifactStore) -> int:
    """How many of these images, by SHA-256, a manifest gives to training or validation."""
    if manifest is None:
        return 0
    rows = read_manifest(manifest, store)
    trained = rows.filter(pc.and_(pc.not_equal(rows["split"], "holdout"), pc.invert(rows["excluded"])))
    return int(pc.sum(pc.is_in(held, value_set=trained["sha256"].combine_chunks())).as_py() or 0)
