"""Train a recorded model again, in a clean process that runs the recorded code: `python -m … FOLDER`.

It knows lakeFS by LAKEFS_ENDPOINT and its keys, and nothing else of the world it runs in.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.settings import given
from resources.storage import ArtifactStore
from visionops_assets.common.progress import watched
from visionops_assets.common.tables import read_table
from visionops_assets.config.project import Project
from visionops_assets.dataset.cache.sample_cache import SampleError
from visionops_assets.dataset.versions.dataset_version import DatasetVersion, manifest_at
from visionops_assets.reproduction.clean_process import (
    KEPT,
    ONNX,
    REPORT,
    REQUEST,
    TRAINING,
    Report,
    Request,
    how_far,
)
from visionops_assets.training.challenger import loaded_code_digest
from visionops_assets.training.code_digest import CodeState, code_state
from visionops_assets.training.provenance import (
    CodeOrigin,
    DataOrigin,
    Difference,
    EpochReport,
    Provenance,
    installed_packages,
)


def answer(request: Request, folder: Path, lakefs: LakeFSResource, say: Callable[[str], None]) -> Report:
    """Carry out a request; `folder` takes samples, checkpoints and weights.

    Nothing is trained where the data or the sources are others than recorded: the answer is known. Raises
    `TrainingError`, and what lakeFS raises.
    """
    original = request.original
    project = _project(original)
    store = ArtifactStore(root=str(folder / KEPT))
    # The sample cache of this machine is not used: other code may have decoded into it.
    try:
        commit = lakefs.head(project.repository, original.data.commit)
        manifest = manifest_at(lakefs, store, project, commit.id)
    except LakeFSNotFound:
        return _missing("commit", original.data.commit, "missing")
    samples = read_table(store, manifest.to_json()) if manifest.fragments else None
    if samples is None or manifest.digest != original.data.manifest_digest:
        return _missing("manifest", original.data.manifest_digest, manifest.digest)
    version = DatasetVersion("", commit, manifest, samples)
    checkout = code_state()
    found = _inputs(original, project, version, checkout)
    if not request.train or found.code.digest != original.code.digest:
        return Report(provenance=found)
    try:
        return Report(
            provenance=_trained(original, project, version, checkout, folder, lakefs, say), trained=True
        )
    except (SampleError, LakeFSNotFound) as error:
        return _missing("images", "as recorded in the manifest", str(error))


def _project(original: Provenance) -> Project:
    """As much of the project's declaration as a training depends on."""
    return Project.model_validate(
        {
            "project": original.project,
            "task": original.task,
            "repository": original.data.repository,
            "annotations": original.data.annotations,
            "classes": original.data.classes,
            "recipe": original.recipe,
        }
    )


def _inputs(
    original: Provenance, project: Project, version: DatasetVersion, checkout: CodeState | None
) -> Provenance:
    """The provenance that a training would have here, without its results."""
    from visionops_assets.training import code_digest

    return original.model_copy(
        update={
            "data": DataOrigin(
                repository=project.repository,
                annotations=project.annotations,
                commit=version.commit.id,
                manifest_digest=version.manifest.digest,
                classes=project.classes,
                train_samples=len(version.split("train")),
                validation_samples=len(version.split("val")),
            ),
            "code": CodeOrigin(
                digest=loaded_code_digest(project.recipe.model.class_path, project.task),
                revision=checkout.revision if checkout else None,
                uncommitted_sha256=checkout.uncommitted_sha256 if checkout else None,
            ),
            "packages": installed_packages(),
            "hardware": code_digest.describe_machine(),
            "weights_sha256": "",
            "metrics": {},
        }
    )


def _trained(
    original: Provenance,
    project: Project,
    version: DatasetVersion,
    checkout: CodeState | None,
    folder: Path,
    lakefs: LakeFSResource,
    say: Callable[[str], None],
) -> Provenance:
    from visionops_assets.training.model_files import export_onnx
    from visionops_assets.training.pretrained.kept_weights import local_weights
    from visionops_assets.training.recording import prepare, provenance_of
    from visionops_assets.training.train import train

    def on_epoch(report: EpochReport) -> None:
        say(f"epoch {report.epoch} of {report.epochs}: loss {report.train_loss:.4f}")

    workdir = folder / TRAINING
    start = local_weights(project.recipe.model.init_weights, ArtifactStore(root=str(folder / KEPT)), workdir)
    request = prepare(
        project, version, original.identity, start, lakefs=lakefs, samples=folder / "samples", say=say
    )
    result = train(request, workdir, on_epoch)
    export_onnx(result.shipped, workdir / ONNX, result.min_score)
    code = loaded_code_digest(project.recipe.model.class_path, project.task)
    return provenance_of(
        project, version, request, result, code=code, checkout=checkout, onnx_sha256=None
    ).model_copy(update={"recipe_digest": original.recipe_digest})


def _missing(name: str, expected: str, found: str) -> Report:
    return Report(missing=Difference(kind="data", name=name, before=expected, after=found))


def main(folder: Path) -> None:
    """Read the request in `folder`, carry it out, write the report there."""
    lakefs = LakeFSResource(
        endpoint=given("LAKEFS_ENDPOINT") or None,
        access_key_id=given("LAKEFS_ACCESS_KEY_ID") or None,
        secret_access_key=given("LAKEFS_SECRET_ACCESS_KEY") or None,
    )
    request = Request.model_validate_json((folder / REQUEST).read_text())

    def say(text: str) -> None:
        print(text, flush=True)

    with watched(lambda doing, done, of: say(how_far(doing, done, of))):
        report = answer(request, folder, lakefs, say)
    unfinished = folder / f"{REPORT}.unfinished"
    unfinished.write_text(report.model_dump_json(indent=1))
    unfinished.rename(folder / REPORT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
