"""`visionops findings`, `verify`, `retract` and `export`: a published batch or a dataset version looked through,
read again, taken back, or written as a folder that another tool works in.
"""

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resources.error_family import Invalid
from visionops import interruption
from visionops_assets.tasks.task_registry import task

if TYPE_CHECKING:
    import pandas as pd

    from resources.lakefs.replies import Commit
    from resources.models.registry import ModelRegistry
    from resources.storage import ArtifactStore
    from visionops_assets.config.project import Project


SHOWN = 20
export_app = typer.Typer(
    help="A dataset version as a folder that another tool works in.", no_args_is_help=True
)


def findings_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    batch: Annotated[str, typer.Argument(help="Name of the batch, for example week-07.")],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write all of them to this CSV file.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write pages with the pictures into this new folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of them as JSON.")] = False,
) -> None:
    """Show what the audit of a batch found, image by image: label, what is suspected instead, and how it is mended.

    Of a refused batch that waits on its branch, else of the published one (also once it was retracted).
    """
    from visionops import services
    from visionops.terminal import progress_line
    from visionops_assets.common.findings import findings_in_words
    from visionops_assets.dataset.findings_file import batch_findings
    from visionops_assets.dataset.versions.layout import check_batch_name

    found, lakefs = services.project(project), services.lakefs()
    kept = batch_findings(lakefs, found, check_batch_name(batch))
    if to is not None:
        write_csv(kept.table, to)
    if html is not None:
        from visionops.drawing import write_findings_pages

        with progress_line(batch) as progress:
            write_findings_pages(lakefs, found, kept, html, lambda done, of: progress("pictures", done, of))
    if as_json:
        told = {
            "project": project,
            "batch": batch,
            "outcome": kept.outcome,
            "commit": kept.commit.id,
            "findings": [_plain(row) for row in kept.table.to_dict("records")],
        }
        typer.echo(json.dumps(told, indent=1))
        return
    typer.echo(
        f"{batch} of {project}, {kept.outcome} in commit {kept.commit.id[:12]}: {len(kept.table):,} findings"
    )
    if to is None and html is None and not kept.table.empty:
        typer.echo(findings_in_words(kept.table, most=SHOWN))
        typer.echo("`--to FILE.csv` writes all of them, `--html FOLDER` shows the pictures")
    for written in (to, html / "index.html" if html is not None else None):
        if written is not None:
            typer.echo(f"written: {written}")


def write_csv(findings: "pd.DataFrame", file: Path) -> None:
    """All findings as CSV, whole or not at all, the box in a column a side.

    Raises ValueError for a file of another kind, and OSError.
    """
    import pandas as pd

    from resources.safe_files import whole_file
    from visionops_assets.dataset.findings_file import findings_for_spreadsheets, with_all_columns

    if file.suffix.lower() != ".csv":
        raise Invalid(f"{file}: findings are written as CSV; name the file {file.with_suffix('.csv').name}")
    table = with_all_columns(findings)
    sides = pd.DataFrame(
        [[None if box is None else box[side] for side in "xywh"] for box in table.pop("box")],
        columns=[f"box_{side}" for side in "xywh"],
        dtype=object,
    )
    first = ["image", "check", "severity", "label", "suspected", "confidence"]
    ordered = table[first + [name for name in table if name not in first]]
    with whole_file(file) as unfinished:
        pd.concat([findings_for_spreadsheets(ordered), sides], axis=1).to_csv(
            unfinished, index=False, encoding="utf-8"
        )


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """A finding for programs; without what is not known of it."""
    return {str(name): value for name, value in row.items() if value is not None}


def verify_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[
        str, typer.Argument(help="Dataset version, commit, branch, tag or batch; by default what main has.")
    ] = "main",
    sample: Annotated[
        int | None, typer.Option(min=1, help="Read this many images only, chosen anew.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Read the images of a dataset version and compare their SHA-256 with the audited ones.

    Names every image that is gone or altered; exit code 1 if there is one.
    """
    interruption.keep("nothing is changed by reading")
    import uuid

    from visionops import services
    from visionops.terminal import progress_line
    from visionops_assets.common.findings import findings_in_words
    from visionops_assets.dataset.integrity import sample_of_rows, verify_images
    from visionops_assets.dataset.versions.dataset_version import EmptyVersion, manifest_at, named_commit
    from visionops_assets.dataset.versions.manifest import manifest_frame, read_manifest

    found, lakefs, artifacts = services.project(project), services.lakefs(), services.artifacts()
    commit = named_commit(lakefs, found, version).id
    samples = manifest_frame(read_manifest(manifest_at(lakefs, artifacts, found, commit), artifacts))
    if samples.empty:
        raise EmptyVersion(
            f"{version} of {found.repository} has no samples of {project}; `visionops verify {project}` reads what "
            "main has"
        )
    if sample is not None:
        samples = sample_of_rows(samples, sample, uuid.uuid4().hex)
    with progress_line(f"{project} {commit[:12]}") as progress:
        findings = verify_images(
            lakefs, found.repository, commit, samples, lambda done, of: progress("read", done, of)
        )
    if as_json:
        wrong = findings[["image", "what", "why"]].to_dict("records")
        told = {"project": project, "commit": commit, "images": len(samples), "wrong": wrong}
        typer.echo(json.dumps(told, indent=1))
    elif findings.empty:
        typer.echo(f"{project} {commit[:12]}: {len(samples):,} images are there, as they were audited")
    else:
        typer.echo(
            f"{project} {commit[:12]}: {len(findings):,} of {len(samples):,} images are not as audited"
        )
        typer.echo(findings_in_words(findings, most=len(findings)))
    if not findings.empty:
        raise typer.Exit(1)


def retract_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    batch: Annotated[str, typer.Argument(help="Name of the batch, for example week-07.")],
    why: Annotated[str, typer.Option(help="Why; kept in the commit for ever.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Take a published batch back out of main. The next dataset version is without it; earlier ones keep it.

    Who decides is VISIONOPS_ACTOR. A corrected batch of the same name can be imported afterwards.
    """
    from visionops import services
    from visionops_assets.dataset.retraction import retract

    found = services.project(project)
    retraction = retract(
        services.lakefs(),
        found,
        batch,
        who=services.actor(),
        why=why,
        neighbours=services.neighbours(found),
    )
    if as_json:
        typer.echo(json.dumps(asdict(retraction), indent=1))
        return
    without = "without its images" if not retraction.kept else "without its labels"
    typer.echo(f"{batch} is retracted: {found.repository}/main is commit {retraction.commit[:12]}, {without}")
    if retraction.kept:
        typer.echo(f"{retraction.kept:,} images stay: other annotations of {found.repository} are about them")
    typer.echo(f"`visionops tick {project}`, or the sensor of `visionops up`, judges the dataset without it")


@export_app.callback()
def export_command() -> None:
    """Keeps `dvc` a verb of its own while it is the only one."""


@export_app.command("dvc")
def export_dvc_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[str, typer.Argument(help="Dataset version, commit, branch, tag or batch.")],
    folder: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="FOLDER",
            help="Folder for a DVC repository: a new one, or an earlier export.",
        ),
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
    from visionops.dvc.source_address import DVCError
    from visionops.terminal import progress_line
    from visionops_assets.dataset.versions.dataset_version import EmptyVersion, manifest_at, named_commit
    from visionops_assets.dataset.versions.layout import is_annotations
    from visionops_assets.dataset.versions.manifest import manifest_frame, read_manifest

    if importlib.util.find_spec("dvc") is None:
        raise DVCError("an export to DVC needs it: run `pip install 'visionops[dvc]'`")
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
    from resources.models.records import PROVENANCE_ARTIFACT
    from visionops_assets.common.keys import dataset_version
    from visionops_assets.common.tables import frame_from_parquet
    from visionops_assets.evaluation.classification import accuracy
    from visionops_assets.evaluation.verdict_store import predictions_path, read_address
    from visionops_assets.training.challenge import training_identity
    from visionops_assets.training.provenance import Provenance

    run = registry.runs.find(project.project, training_identity(project, manifest))
    if run is None:
        return {}
    provenance = Provenance.from_json(registry.artifacts.read_bytes(run.id, PROVENANCE_ARTIFACT).decode())
    measured = dict(provenance.metrics)
    partition = dataset_version(commit.id, commit.created_at)
    decision = read_address(artifacts, "decision", project.project, partition)
    if decision is not None and decision.run_id == run.id and task(project.task).costs:
        answers = registry.artifacts.read_bytes(run.id, predictions_path(decision.identity))
        table = frame_from_parquet(answers)
        measured["holdout_accuracy"] = accuracy(table["label"], table["challenger_prediction"])
    return measured
