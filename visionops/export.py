"""`visionops export`: a dataset version as a folder that another tool works in."""

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionops import interruption

if TYPE_CHECKING:
    from resources.artifact_store import ArtifactStore
    from resources.lakefs_records import Commit
    from resources.models.registry import ModelRegistry
    from visionops_assets.project import Project


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[str, typer.Argument(help="Dataset version, commit, branch, tag or batch.")],
    folder: Annotated[
        Path, typer.Option("--dvc", help="Folder for a DVC repository: a new one, or an earlier export.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Write a dataset version to a folder that DVC tracks, with a pipeline that trains on it.

    Images and annotations lie there as in lakeFS; `dvc repro` trains by params.yaml, `dvc metrics diff` compares.
    An earlier export gets the version as its next git commit.
    """
    interruption.keep("a new folder appears whole, and an earlier export is set right by the next one")
    from visionops import services
    from visionops.dvc.exported_folder import ExportedVersion, write_folder
    from visionops.dvc_address import DVCError
    from visionops.progress import progress_line
    from visionops_assets.dataset.versions.dataset_version import EmptyVersion, manifest_at, named_commit
    from visionops_assets.dataset.versions.layout import is_annotations
    from visionops_assets.dataset.versions.manifest import manifest_frame, read_manifest

    if importlib.util.find_spec("dvc") is None:
        raise DVCError("--dvc needs DVC: run `pip install 'visionops[dvc]'`")
    found, lakefs, artifacts = services.project(project), services.lakefs(), services.artifacts()
    commit = named_commit(lakefs, found, version)
    manifest = manifest_at(lakefs, artifacts, found, commit.id)
    samples = manifest_frame(read_manifest(manifest, artifacts))
    if samples.empty:
        raise EmptyVersion(f"{version} of {found.repository} has no samples of {project}: nothing to export")
    files = [
        fragment.source
        for fragment in manifest.fragments
        if is_annotations(fragment.source, found.annotations)
    ]
    exported = ExportedVersion(
        source={
            "project": project,
            "repository": found.repository,
            "commit": commit.id,
            "manifest": manifest.digest,
        },
        parameters=found.model_dump(
            mode="json",
            include={"project", "task", "annotations", "classes", "recipe"},
        ),
        metrics=_measured(services.registry(), artifacts, found, commit, manifest.digest),
        images=dict(zip(samples["path"], samples["sha256"], strict=True)),
        annotations=dict(lakefs.read_many(found.repository, commit.id, files)),
    )
    with progress_line(f"{project} {commit.id[:12]}") as progress:
        revision = write_folder(
            folder,
            exported,
            lambda paths: lakefs.read_many(found.repository, commit.id, paths),
            lambda done, of: progress("written", done, of),
        )
    if as_json:
        told = {
            "project": project,
            "commit": commit.id,
            "folder": str(folder.absolute()),
            "git_commit": revision,
        }
        typer.echo(json.dumps({**told, "images": len(samples), "metrics": exported.metrics}, indent=1))
        return
    typer.echo(f"{project} {commit.id[:12]}: {len(samples):,} images in {folder}, git commit {revision[:12]}")
    if not exported.metrics:
        typer.echo("metrics.json is empty: no model was trained by this recipe on this version yet")
    typer.echo(f"`cd {folder} && dvc repro` trains there, `dvc metrics diff` compares with this commit")


def _measured(
    registry: "ModelRegistry", artifacts: "ArtifactStore", project: "Project", commit: "Commit", manifest: str
) -> dict[str, float]:
    """What is known of the model that VisionOps trained by the project's recipe, by the names that the stage uses."""
    from resources.model_records import PROVENANCE_ARTIFACT
    from visionops_assets.common.tables import frame_from_parquet
    from visionops_assets.evaluation.address import read_address
    from visionops_assets.evaluation.metrics import accuracy
    from visionops_assets.evaluation.verdicts import predictions_path
    from visionops_assets.partitions import dataset_version
    from visionops_assets.training.challenge import training_identity
    from visionops_assets.training.provenance import Provenance

    run = registry.runs.find(project.project, training_identity(project, manifest))
    if run is None:
        return {}
    provenance = Provenance.from_json(registry.artifacts.read_bytes(run.id, PROVENANCE_ARTIFACT).decode())
    measured = dict(provenance.metrics)
    partition = dataset_version(commit.id, commit.created_at)
    judged = read_address(artifacts, "decision", project.project, partition)
    if judged is not None and judged.run_id == run.id and project.task == "classification":
        answers = registry.artifacts.read_bytes(run.id, predictions_path(judged.identity))
        table = frame_from_parquet(answers)
        measured["holdout_accuracy"] = accuracy(table["label"], table["challenger_prediction"])
    return measured
