"""From a dataset version to what a training takes, and from its result to its provenance.

The same for a challenger and for its reproduction.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from visionops_assets.dataset.cache.samples import ImageReader, load_samples
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.project import Project
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.code_digest import CodeState
from visionops_assets.training.errors import WeightsError
from visionops_assets.training.provenance import DataOrigin, Provenance, collect
from visionops_assets.training.tasks import task_of
from visionops_assets.training.train import TrainingRequest, TrainingResult
from visionops_assets.training.weights import tensors_in


def prepare(
    project: Project,
    version: DatasetVersion,
    identity: str,
    workdir: Path,
    *,
    lakefs: ImageReader,
    samples: Path,
    say: Callable[[str], None],
) -> TrainingRequest:
    """What to train on what: the decoded samples of the sides that training sees, and the weights to start from.

    `samples` is the root of the sample cache; a local copy of declared weights goes into `workdir`. Raises
    `WeightsError`, `SampleError`, `UnreadableImage`, and what lakeFS and the store of the weights raise.
    """
    # First: what is wrong with them is known before thousands of images are decoded.
    init_weights = _init_weights(project, workdir)
    used = version.split("train", "val")
    view, filled = load_samples(
        lakefs, project.repository, version.commit.id, used, samples, project.recipe.input
    )
    say(f"{filled.wanted} samples; {filled.added} fetched and decoded in {filled.seconds:.1f} s")
    task = task_of(project.task)
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
    targets = task_of(project.task).targets(rows, project.classes, project.recipe.input)
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
    return collect(
        project=project.project,
        task=project.task,
        identity=request.identity,
        data=DataOrigin(
            repository=project.repository,
            annotations=project.annotations,
            commit=version.commit.id,
            manifest_digest=version.manifest.digest,
            classes=project.classes,
            train_samples=len(request.train),
            validation_samples=len(request.validation) if request.validation is not None else 0,
        ),
        declared=project.recipe,
        resolved=result.recipe,
        code=code,
        checkout=checkout,
        weights_sha256=result.weights_sha256,
        onnx_sha256=onnx_sha256,
        metrics=result.metrics,
    )


def _init_weights(project: Project, workdir: Path) -> Path | None:
    """A verified local copy of the weights to start from. Raises WeightsError."""
    declared = project.recipe.model.init_weights
    if declared is None:
        return None
    from upath import UPath

    try:
        content = UPath(declared.uri).read_bytes()
    except OSError as error:
        raise WeightsError(
            f"model.init_weights.uri {declared.uri}: cannot be read ({error.strerror or error})"
        ) from error
    tensors_in(content, declared.sha256, declared.uri)
    workdir.mkdir(parents=True, exist_ok=True)
    copy = workdir / "init_weights.safetensors"
    copy.write_bytes(content)
    return copy
