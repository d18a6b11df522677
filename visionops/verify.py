"""`visionops verify`: read every image of a dataset version again."""

import json
from typing import Annotated

import typer

from visionops import interruption


def command(
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
    from visionops.progress import progress_line
    from visionops_assets.common.findings import findings_in_words
    from visionops_assets.dataset.verify import sample_of, verify_images
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
        samples = sample_of(samples, sample, uuid.uuid4().hex)
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
