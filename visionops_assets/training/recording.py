"""From a dataset version to what a training takes, and what the training leaves in its MLflow run: alike for a
challenger, its reproduction, an experiment and one's own script.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resources.escaping import drawn
from resources.models.records import (
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_ONNX,
    TAG_PROVENANCE,
    TAG_WEIGHTS,
    WEIGHTS_ARTIFACT,
)
from resources.models.registry import ModelRegistry
from visionops_assets.config.project import Project
from visionops_assets.config.recipe import recipe_digest
from visionops_assets.dataset.cache.samples import ImageReader, load_samples
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.dataset.versions.manifest import Manifest
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.challenger import (
    CURVES_ARTIFACT,
    MANIFEST_ARTIFACT,
    PARITY_ARTIFACT,
    PATCH_ARTIFACT,
)
from visionops_assets.training.code_digest import CodeState, describe_machine
from visionops_assets.training.model_files import ParityReport
from visionops_assets.training.provenance import (
    CodeOrigin,
    DataOrigin,
    EpochReport,
    Provenance,
    installed_packages,
)
from visionops_assets.training.train import TrainingRequest, TrainingResult
from visionops_assets.training.training_task import training_task

_LARGEST_BYTES = 50_000


def prepare(
    project: Project,
    version: DatasetVersion,
    identity: str,
    init_weights: Path | None,
    *,
    lakefs: ImageReader,
    samples: Path,
    say: Callable[[str], None],
) -> TrainingRequest:
    """What to train on what: the decoded samples of the sides that training sees, and the weights to start from.

    `samples` is the root of the sample cache, `init_weights` the copy of declared weights that `local_weights` gives.
    Raises `SampleError`, `UnreadableImage`, and what lakeFS raises.
    """
    used = version.split("train", "val")
    view, filled = load_samples(
        lakefs, project.repository, version.commit.id, used, samples, project.recipe.input
    )
    say(f"{filled.wanted} samples; {filled.added} fetched and decoded in {filled.seconds:.1f} s")
    task = training_task(project.task)
    targets = task.targets(used, project.classes, project.recipe.input)

    def side(name: str) -> LabelledImages:
        rows = np.flatnonzero((used["split"] == name).to_numpy()).astype(np.int64)
        return LabelledImages(view, rows, targets[rows])

    validation = side("val")
    return TrainingRequest(
        recipe=project.recipe,
        classes=project.classes,
        train=side("train"),
        validation=validation if len(validation) else None,
        identity=identity,
        task=task,
        init_weights=init_weights,
    )


def labelled(
    project: Project, version: DatasetVersion, rows: pd.DataFrame, *, lakefs: ImageReader, samples: Path
) -> LabelledImages:
    """Rows of a dataset version's manifest as labelled images, in their order; raises what `prepare` raises."""
    view, _ = load_samples(lakefs, project.repository, version.commit.id, rows, samples, project.recipe.input)
    targets = training_task(project.task).targets(rows, project.classes, project.recipe.input)
    return LabelledImages(view, np.arange(len(rows), dtype=np.int64), targets)


def provenance_of(
    project: Project,
    version: DatasetVersion,
    request: TrainingRequest,
    result: TrainingResult,
    *,
    code: str,
    checkout: CodeState | None,
    onnx_sha256: str | None,
) -> Provenance:
    """The provenance of what this process trained. `code` is the digest of the sources, `checkout` their revision."""
    return Provenance(
        project=project.project,
        task=project.task,
        identity=request.identity,
        data=data_origin(project, version, request.train, request.validation),
        recipe=result.recipe,
        recipe_digest=recipe_digest(project.recipe),
        code=CodeOrigin.of(code, checkout),
        packages=installed_packages(),
        hardware=describe_machine(),
        weights_sha256=result.weights_sha256,
        onnx_sha256=onnx_sha256,
        metrics=result.metrics,
    )


def data_origin(
    project: Project, version: DatasetVersion, train: LabelledImages, validation: LabelledImages | None
) -> DataOrigin:
    """Which samples of a dataset version a model was made of."""
    return DataOrigin(
        repository=project.repository,
        annotations=project.annotations,
        commit=version.commit.id,
        manifest_digest=version.manifest.digest,
        classes=project.classes,
        train_samples=len(train),
        validation_samples=len(validation) if validation is not None else 0,
    )


def learning_curves(history: Sequence[EpochReport], title: str = "") -> bytes:
    """Return a PNG of under 50 kB: losses on the left axis, the validation score on the right."""
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # One epoch is a point, not a line.
    marker = "o" if len(history) == 1 else None
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    losses = figure.add_subplot()

    def draw(axes: Axes, label: str, field: str, colour: str, style: str) -> bool:
        points = [
            (report.epoch, value) for report in history if (value := getattr(report, field)) is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, marker=marker, label=label)
        return bool(points)

    draw(losses, "training loss", "train_loss", "tab:blue", "-")
    draw(losses, "validation loss", "validation_loss", "tab:orange", "-")
    if any(report.validation_score is not None for report in history):
        name, scores = history[0].score, losses.twinx()
        draw(scores, f"validation {name}", "validation_score", "tab:green", "--")
        scores.set_ylim(0, 1.02)
        scores.set_ylabel(name)
    losses.set_ylim(bottom=0)
    losses.set_xlabel("epoch")
    losses.set_ylabel("loss")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    if title:
        losses.set_title(drawn(title))
    for dpi in (100, 60):
        picture = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(picture, format="png", dpi=dpi)
        if picture.tell() < _LARGEST_BYTES:
            break
    return picture.getvalue()


def epoch_metrics(report: EpochReport) -> dict[str, float]:
    """The numbers of one epoch by name; what could not be measured is left out."""
    numbers = {
        "train_loss": report.train_loss,
        "validation_loss": report.validation_loss,
        f"validation_{report.score}": report.validation_score,
        "validation_F1": report.validation_f1,
        "min_score": report.min_score,
        "learning_rate": report.learning_rate,
        "epoch_seconds": report.seconds,
    }
    return {name: value for name, value in numbers.items() if value is not None}


@dataclass(frozen=True)
class FinishedModel:
    """A model with all that tells of it: its two files, the `proof` that they agree, how it was made, the `manifest` of
    what it was made of, the `checkout` of its code, and what its epochs achieved."""

    weights: Path
    onnx: Path
    proof: ParityReport
    provenance: Provenance
    manifest: Manifest
    checkout: CodeState | None
    history: Sequence[EpochReport]


def put_model(registry: ModelRegistry, run_id: str, made: FinishedModel) -> None:
    """Write the files of a model: what the gate, promotion and reproduction read. Their digests are tags of the run."""
    files, provenance, proof = registry.artifacts, made.provenance, made.proof
    record = provenance.to_json().encode()
    proven = {**asdict(proof), "passed": proof.passed, "summary": proof.summary}
    files.put_file(run_id, WEIGHTS_ARTIFACT, made.weights)
    files.put_file(run_id, ONNX_ARTIFACT, made.onnx)
    files.put_bytes(run_id, PROVENANCE_ARTIFACT, record)
    files.put_bytes(run_id, PARITY_ARTIFACT, json.dumps(proven, indent=1).encode())
    files.put_bytes(run_id, MANIFEST_ARTIFACT, json.dumps(made.manifest.to_json(), indent=1).encode())
    if made.history:
        files.put_bytes(run_id, CURVES_ARTIFACT, learning_curves(made.history, provenance.project))
    if made.checkout is not None and made.checkout.uncommitted:
        patch = made.checkout.uncommitted.encode(errors="surrogateescape")
        files.put_bytes(run_id, PATCH_ARTIFACT, patch)
    digests = {
        TAG_WEIGHTS: provenance.weights_sha256,
        TAG_ONNX: provenance.onnx_sha256 or "",
        TAG_PROVENANCE: hashlib.sha256(record).hexdigest(),
    }
    registry.runs.set_tags(run_id, digests)


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted path, as MLflow and W&B compare them side by side."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{path}."))
        else:
            flat[path] = json.dumps(value) if isinstance(value, list | tuple) else value
    return flat
