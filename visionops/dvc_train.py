"""`python -m visionops.dvc_train`: the stage `train` of an exported DVC folder.

Reads batches/ and params.yaml of the present folder, and writes model/ (weights.safetensors, model.onnx) and
metrics.json: the weights that VisionOps itself would make of these samples by this recipe, bit for bit. No lakeFS,
MLflow or Dagster is asked.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resources import home
from resources.error_family import Invalid
from resources.storage import ArtifactStore
from visionops_assets.dataset.versions.layout import BATCHES, is_annotations

if TYPE_CHECKING:
    from visionops_assets.config.project import Project
    from visionops_assets.dataset.versions.dataset_version import DatasetVersion


class StageError(Invalid):
    """An exported folder that cannot be trained on; the message names the file and the fix."""


class ImagesInFolder:
    """Images under a folder, read as those of a lakeFS commit are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read_many(self, repository: str, reference: str, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """(path, bytes) of each path; raises `StageError` for a file that is not there."""
        for path in paths:
            try:
                yield path, (self._folder / path).read_bytes()
            except FileNotFoundError as error:
                raise StageError(f"{path} is not there: `dvc checkout`, or `dvc pull`, brings it") from error


def train_folder(folder: Path) -> dict[str, float]:
    """Train on an exported folder by its params.yaml; returns what metrics.json says.

    Raises `StageError`, TrainingError and its kinds, `ProjectError`, `AnnotationsError`.
    """
    from visionops_assets.training.challenge import training_identity
    from visionops_assets.training.model_files import export_onnx, golden_images, parity
    from visionops_assets.training.pretrained.kept_weights import local_weights
    from visionops_assets.training.recording import labelled, prepare
    from visionops_assets.training.train import train

    project = _project(folder)
    version = _version(folder, project)
    images = ImagesInFolder(folder)
    with tempfile.TemporaryDirectory(prefix="visionops-train-") as scratch:
        work = Path(scratch)
        identity = training_identity(project, version.manifest.digest)
        samples = home.cache() / "samples"
        start = local_weights(project.recipe.model.init_weights, ArtifactStore(root=home.artifacts()), work)
        request = prepare(project, version, identity, start, lakefs=images, samples=samples, say=print)
        result = train(request, work, lambda report: print(f"epoch {report.epoch} of {report.epochs}"))
        onnx = work / "model.onnx"
        export_onnx(result.shipped, onnx, result.min_score)
        proof = parity(onnx, result.shipped, golden_images(request.train))
        if not proof.passed:
            raise StageError(f"the exported model answers otherwise than the trained one: {proof.summary}")
        metrics = dict(result.metrics)
        holdout = version.split("holdout")
        if len(holdout):
            held_out = labelled(project, version, holdout, lakefs=images, samples=samples)
            _, score = request.task.measure(result.shipped, held_out)
            metrics[f"holdout_{request.task.score}"] = score
        (folder / "model").mkdir(exist_ok=True)
        for made in (result.weights, onnx):
            shutil.copyfile(made, folder / "model" / made.name)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True))
    return metrics


def _project(folder: Path) -> "Project":
    from visionops_assets.config.project import Project
    from visionops_assets.config.section import NotYAML, parse_yaml

    parameters = folder / "params.yaml"
    if not parameters.is_file():
        raise StageError(
            f"{folder} has no params.yaml: `visionops export dvc PROJECT VERSION --to FOLDER` makes such a folder"
        )
    try:
        declared = parse_yaml(parameters.read_text())
    except (NotYAML, UnicodeDecodeError) as error:
        raise StageError(f"{parameters}: is not valid YAML: {error}") from error
    # The stage has no lakeFS: where the samples are from stands in visionops.json.
    return Project.model_validate({"repository": "exported", **declared})


def _version(folder: Path, project: "Project") -> "DatasetVersion":
    """What batches/ holds, as a dataset version."""
    import datetime

    from resources.lakefs.replies import Commit
    from resources.storage import ArtifactStore
    from visionops_assets.dataset.versions.dataset_version import DatasetVersion
    from visionops_assets.dataset.versions.manifest import (
        AnnotationsFile,
        build_manifest,
        manifest_frame,
        read_manifest,
    )

    paths = sorted(
        path.relative_to(folder).as_posix() for path in (folder / BATCHES).glob("*/annotations/*.parquet")
    )
    files = {
        path: (folder / path).read_bytes() for path in paths if is_annotations(path, project.annotations)
    }
    if not files:
        raise StageError(
            f"{folder / BATCHES} has no annotations called {project.annotations}: `dvc checkout`, or `dvc pull`, "
            "brings them"
        )
    listed = [AnnotationsFile(path, hashlib.sha256(data).hexdigest()) for path, data in files.items()]
    with tempfile.TemporaryDirectory(prefix="visionops-manifest-") as scratch:
        store = ArtifactStore(root=scratch)
        manifest = build_manifest(listed, lambda wanted: [(path, files[path]) for path in wanted], store)
        samples = manifest_frame(read_manifest(manifest, store))
    commit = Commit(manifest.digest, (), "", "", datetime.datetime.now(datetime.UTC))
    return DatasetVersion("exported", commit, manifest, samples)


def main() -> None:
    """Train on the present folder; an error is one line."""
    from visionops import bootstrap

    bootstrap.prepare()
    try:
        metrics = train_folder(Path.cwd())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(metrics, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
