"""From a dataset version to a challenger: trained, exported, proven and recorded in one MLflow run.

A finished run of the same data, recipe and code is found and reused; an interrupted one is taken up where its last
checkpoint left it. The run is FINISHED only when all its artifacts are written.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from resources.escaping import markdown
from resources.models.records import (
    FAILED,
    KILLED,
    TAG_CODE,
    TAG_COMMIT,
    TAG_DESCRIPTION,
    TAG_MANIFEST,
    TAG_PARTITION,
    TAG_RECIPE,
    Run,
)
from resources.models.trackers import Tracking
from resources.service_clients import Stores
from visionops_assets.config.project import Project
from visionops_assets.config.recipe import canonical_json, recipe_digest
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.training.challenger import (
    Challenger,
    challenger_of,
    loaded_code_digest,
    training_version_of,
)
from visionops_assets.training.code_digest import code_state
from visionops_assets.training.model_files import export_onnx, golden_images, parity
from visionops_assets.training.pretrained.kept_weights import local_weights
from visionops_assets.training.provenance import EpochReport
from visionops_assets.training.recording import (
    FinishedModel,
    epoch_metrics,
    flattened,
    prepare,
    provenance_of,
    put_model,
)
from visionops_assets.training.train import train


def challenge(
    project: Project,
    version: DatasetVersion,
    stores: Stores,
    *,
    say: Callable[[str], None],
    tags: Mapping[str, str] | None = None,
    name: str | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> tuple[Challenger, bool]:
    """The challenger of a dataset version, and whether an earlier training was reused.

    A run that is trained here gets `tags` and `name`, by default the project's and the dataset version's.
    `on_epoch` hears each epoch. Raises TrainingError and its kinds, `SampleError`, `UnreadableImage`,
    `WandbMissing`, and what lakeFS and MLflow raise.
    """
    identity = training_identity(project, version.manifest.digest)
    runs = stores.registry.runs
    run = runs.find(project.project, identity)
    reused = run is not None
    if run is None:
        digests = {
            TAG_PARTITION: version.partition,
            TAG_COMMIT: version.commit.id,
            TAG_MANIFEST: version.manifest.digest,
            TAG_RECIPE: recipe_digest(project.recipe),
            TAG_CODE: loaded_code_digest(project.recipe.model.class_path, project.task),
            TAG_DESCRIPTION: _described(project, version),
        }
        named = name or f"{project.project} {version.partition}"
        with stores.scratch.exclusive_training(identity) as workdir:
            # Whoever trained the same meanwhile has finished.
            run = runs.open(project.project, identity, named, {**digests, **(tags or {})})
            reused = run.finished
            if not reused:
                training = _Training(project, version, identity, run, stores, workdir, say, on_epoch)
                training.run_to_its_end()
                shutil.rmtree(workdir, ignore_errors=True)
    if reused:
        say(f"run {run.name} trained the same data, recipe and code: reused")
    return challenger_of(runs.get(run.id), project), reused


def training_identity(project: Project, manifest_digest: str) -> str:
    """What makes two trainings the same: project, data, recipe with classes, code."""
    code = loaded_code_digest(project.recipe.model.class_path, project.task)
    return identity_of(project, manifest_digest, recipe_digest(project.recipe), code)


def identity_of(project: Project, manifest_digest: str, recipe: str, code: str) -> str:
    """The same of any recipe and code, by their digests."""
    content = [project.project, manifest_digest, training_version_of(project, recipe, code)]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _described(project: Project, version: DatasetVersion) -> str:
    """What MLflow's page of a training says of it."""
    recipe, spec = project.recipe, project.recipe.input
    return markdown(
        f"{recipe.model.shown} trained for {recipe.epochs} epochs on the {len(version.split('train')):,} training "
        f"images ({spec.width}×{spec.height}, {'grey' if spec.channels == 1 else 'colour'}) of dataset version "
        f"{version.partition}."
    )


@dataclass(frozen=True)
class _Training:
    """One training that has to run, and the MLflow run it is recorded in."""

    project: Project
    version: DatasetVersion
    identity: str
    recorded: Run
    stores: Stores
    workdir: Path
    say: Callable[[str], None]
    on_epoch: Callable[[EpochReport], None] | None

    def run_to_its_end(self) -> None:
        """Train and record; the run says how it ended, unless the process is killed."""
        project, tags = self.project, self.recorded.tags
        tracking = Tracking(
            project.tracking, self.stores.registry.runs, project.project, self.recorded, self.say
        )
        try:
            tracking.start(flattened(project.recipe.model_dump(mode="json")), tags)
            self._run(tracking)
        except Exception:
            tracking.end(FAILED)
            raise
        except BaseException:
            tracking.end(KILLED)
            raise
        tracking.end()

    def _run(self, tracking: Tracking) -> None:
        """Train, export, prove and record."""
        runs, project, run_id = self.stores.registry.runs, self.project, self.recorded.id
        # Now, not when it is recorded: what is edited during a training did not make the model.
        checkout = code_state()
        address = f"lakefs://{project.repository}/{self.version.commit.id}/"
        runs.log_dataset(run_id, address, project.repository, self.version.manifest.digest)
        # First: what is wrong with them is known before thousands of images are decoded.
        start = local_weights(project.recipe.model.init_weights, self.stores.artifacts, self.workdir)
        request = prepare(
            project,
            self.version,
            self.identity,
            start,
            lakefs=self.stores.lakefs,
            samples=self.stores.scratch.samples,
            say=self.say,
        )
        result = train(request, self.workdir, lambda report: self._hear(report, tracking))
        if result.start is not None:
            self.say(f"started from given weights: {result.start.words}")
        onnx = self.workdir / "model.onnx"
        onnx_sha256 = export_onnx(result.shipped, onnx, result.min_score)
        proof = parity(onnx, result.shipped, golden_images(request.train))
        self.say(proof.summary)
        provenance = provenance_of(
            project,
            self.version,
            request,
            result,
            code=self.recorded.tags[TAG_CODE],
            checkout=checkout,
            onnx_sha256=onnx_sha256,
        )
        made = FinishedModel(
            result.weights, onnx, proof, provenance, self.version.manifest, checkout, result.history
        )
        put_model(self.stores.registry, run_id, made)

    def _hear(self, report: EpochReport, tracking: Tracking) -> None:
        tracking.log(epoch_metrics(report), report.epoch)
        score = report.validation_score
        shown = f", validation {report.score} {score:.3f}" if score is not None else ""
        self.say(f"epoch {report.epoch} of {report.epochs}: loss {report.train_loss:.4f}{shown}")
        if self.on_epoch is not None:
            self.on_epoch(report)
