"""From a dataset version to a challenger: trained, exported, proven and recorded in one MLflow run.

A finished run of the same data, recipe and code is found and reused; an interrupted one is taken up where its last
checkpoint left it. The run is FINISHED only when all its artifacts are written.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resources.lakefs import LakeFSResource
from resources.model_records import (
    FAILED,
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_CODE,
    TAG_COMMIT,
    TAG_DAGSTER_RUN,
    TAG_MANIFEST,
    TAG_ONNX,
    TAG_PARTITION,
    TAG_RECIPE,
    TAG_WEIGHTS,
    WEIGHTS_ARTIFACT,
)
from resources.model_registry import ModelRegistry
from resources.scratch import Scratch
from visionops_assets.dataset.version import DatasetVersion
from visionops_assets.project import Project
from visionops_assets.training.challenger import (
    CURVES_ARTIFACT,
    MANIFEST_ARTIFACT,
    PARITY_ARTIFACT,
    PATCH_ARTIFACT,
    Challenger,
)
from visionops_assets.training.code_digest import CodeState, code_state
from visionops_assets.training.curves import learning_curves
from visionops_assets.training.export import ParityReport, export_onnx, golden_images, parity
from visionops_assets.training.history import EpochReport
from visionops_assets.training.preparation import prepare, provenance_of
from visionops_assets.training.provenance import Provenance
from visionops_assets.training.recipe import canonical_json, recipe_digest
from visionops_assets.training.train import TrainingResult, train
from visionops_assets.training.training_version import loaded_code_digest, training_version


def challenge(
    project: Project,
    version: DatasetVersion,
    *,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    scratch: Scratch,
    dagster_run_id: str,
    say: Callable[[str], None],
) -> tuple[Challenger, bool]:
    """The challenger of a dataset version, and whether an earlier training was reused.

    Raises TrainingError and its kinds, `SampleError`, `UnreadableImage`, and what lakeFS and MLflow raise.
    """
    identity = training_identity(project, version.manifest.digest)
    digests = {
        TAG_MANIFEST: version.manifest.digest,
        TAG_RECIPE: recipe_digest(project.recipe),
        TAG_CODE: loaded_code_digest(project.recipe.model.class_path),
    }
    name = f"{project.project} {version.partition}"
    tags = {TAG_PARTITION: version.partition, TAG_COMMIT: version.commit.id, TAG_DAGSTER_RUN: dagster_run_id}
    run = registry.runs.open(project.project, identity, name, {**tags, **digests})
    if run.finished:
        say(f"run {run.name} trained the same data, recipe and code: reused")
    else:
        training = _Training(
            project, version, identity, digests[TAG_CODE], run.id, registry, scratch.training(identity), say
        )
        try:
            training.run(lakefs, scratch)
        except Exception:
            registry.runs.end(run.id, FAILED)
            raise
    recorded = registry.runs.get(run.id).tags
    challenger = Challenger(
        run_id=run.id,
        identity=identity,
        weights_sha256=recorded[TAG_WEIGHTS],
        onnx_sha256=recorded[TAG_ONNX],
        manifest_digest=digests[TAG_MANIFEST],
        recipe_digest=digests[TAG_RECIPE],
        code_digest=digests[TAG_CODE],
        training_version=training_version(project),
    )
    return challenger, run.finished


def training_identity(project: Project, manifest_digest: str) -> str:
    """What makes two trainings the same: project, data, recipe with classes, code."""
    content = [project.project, manifest_digest, training_version(project)]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


@dataclass(frozen=True)
class _Training:
    """One training that has to run, and the MLflow run it is recorded in."""

    project: Project
    version: DatasetVersion
    identity: str
    code: str
    run_id: str
    registry: ModelRegistry
    workdir: Path
    say: Callable[[str], None]

    def run(self, lakefs: LakeFSResource, scratch: Scratch) -> None:
        """Train, export, prove and record; the run is FINISHED when everything is written."""
        runs, project = self.registry.runs, self.project
        # Now, not when it is recorded: what is edited during a training did not make the model.
        checkout = code_state()
        runs.log_params(self.run_id, _flat(project.recipe.model_dump(mode="json")))
        address = f"lakefs://{project.repository}/{self.version.commit.id}/"
        runs.log_dataset(self.run_id, address, project.repository, self.version.manifest.digest[:36])
        request = prepare(
            project,
            self.version,
            self.identity,
            self.workdir,
            lakefs=lakefs,
            samples=scratch.samples,
            say=self.say,
        )
        result = train(request, self.workdir, self._on_epoch)
        onnx = self.workdir / "model.onnx"
        onnx_sha256 = export_onnx(result.shipped, onnx)
        proof = parity(onnx, result.shipped, golden_images(request.train))
        self.say(proof.summary)
        provenance = provenance_of(
            project,
            self.version,
            request,
            result,
            code=self.code,
            checkout=checkout,
            onnx_sha256=onnx_sha256,
        )
        self._record(provenance, checkout, result, onnx, proof)
        runs.set_tags(self.run_id, {TAG_WEIGHTS: result.weights_sha256, TAG_ONNX: onnx_sha256})
        runs.end(self.run_id)
        shutil.rmtree(self.workdir, ignore_errors=True)

    def _on_epoch(self, report: EpochReport) -> None:
        numbers = {
            "train_loss": report.train_loss,
            "validation_loss": report.validation_loss,
            f"validation_{report.score}": report.validation_score,
            "learning_rate": report.learning_rate,
            "epoch_seconds": report.seconds,
        }
        known = {name: value for name, value in numbers.items() if value is not None}
        self.registry.runs.log_metrics(self.run_id, known, step=report.epoch)
        score = report.validation_score
        shown = f", validation {report.score} {score:.3f}" if score is not None else ""
        self.say(f"epoch {report.epoch} of {report.epochs}: loss {report.train_loss:.4f}{shown}")

    def _record(
        self,
        provenance: Provenance,
        checkout: CodeState | None,
        result: TrainingResult,
        onnx: Path,
        proof: ParityReport,
    ) -> None:
        listing = json.dumps(self.version.manifest.to_json(), indent=1)
        proven = json.dumps({**asdict(proof), "passed": proof.passed, "summary": proof.summary}, indent=1)
        files = self.registry.artifacts
        files.put_file(self.run_id, WEIGHTS_ARTIFACT, result.weights)
        files.put_file(self.run_id, ONNX_ARTIFACT, onnx)
        files.put_bytes(self.run_id, PROVENANCE_ARTIFACT, provenance.to_json().encode())
        files.put_bytes(self.run_id, PARITY_ARTIFACT, proven.encode())
        files.put_bytes(self.run_id, MANIFEST_ARTIFACT, listing.encode())
        files.put_bytes(self.run_id, CURVES_ARTIFACT, learning_curves(result.history, self.project.project))
        if checkout is not None and checkout.uncommitted:
            patch = checkout.uncommitted.encode(errors="surrogateescape")
            files.put_bytes(self.run_id, PATCH_ARTIFACT, patch)


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted path, as MLflow compares them side by side."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            flat.update(_flat(value, f"{path}."))
        else:
            flat[path] = json.dumps(value) if isinstance(value, list | tuple) else value
    return flat
