"""`visionops import`: take a batch by hand."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionops import interruption, source_options

if TYPE_CHECKING:
    from visionops_assets.dataset.publishing import BatchRefused, Published


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    source: Annotated[
        str,
        typer.Argument(
            help="Images with their labels: a folder, an archive, s3://bucket/folder, or dvc://PATH[@REV]."
        ),
    ],
    batch: Annotated[str, typer.Option(help="Name the batch will have, for example week-07.")],
    format_name: source_options.Format = None,
    encoding: source_options.Encoding = None,
    boxes: source_options.Boxes = None,
    unlabelled: source_options.Unlabelled = None,
    renamed: source_options.Renamed = None,
    dropped: source_options.Dropped = None,
    leave_out_errors: source_options.LeaveOutErrors = False,
    follow_links: source_options.FollowLinks = False,
    holdout: source_options.Holdout = None,
    preview: source_options.Preview = None,
    findings_to: Annotated[
        Path | None,
        typer.Option("--findings", metavar="FILE.csv", help="Write all that this audit finds to this file."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say only what came of it, not what is being done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came of it as JSON, whole.")] = False,
) -> None:
    """Import a batch on a branch of its own, check it, and merge it to main only if it passes.

    Importing the same batch again changes nothing; a corrected one replaces it.
    """
    interruption.keep(f"{batch} is published whole or not at all")
    from visionops import services
    from visionops.findings import write_csv
    from visionops.progress import progress_line
    from visionops.sources import opened
    from visionops_assets.common.findings import findings_in_words
    from visionops_assets.dataset.importing.reading import read_source
    from visionops_assets.dataset.publishing import LINES, BatchRefused, Publisher
    from visionops_assets.evaluation.opinion import champion_opinion

    stated = source_options.stated(
        format_name, encoding, boxes, unlabelled, renamed, dropped, leave_out_errors, follow_links, holdout
    )
    found, registry = services.project(project), services.registry()
    with progress_line(batch, not quiet) as progress, opened(source, progress) as one:
        if one.must_be_copied:
            found = found.model_copy(update={"source_is_immutable": False})
        publisher = Publisher(
            found,
            services.lakefs(),
            services.artifacts(),
            progress,
            metadata=dict(one.provenance),
            opinion=champion_opinion(registry, found),
            check_source=one.check_unchanged,
            neighbours=services.neighbours(found),
        )
        if preview is not None:
            from visionops.preview import write_preview

            write_preview(read_source(one.path, stated), preview)
            typer.echo(f"written: {preview / 'index.html'}", err=as_json)
        try:
            published = publisher.publish(one.path, batch, stated, one.address)
        except BatchRefused as refused:
            if findings_to is not None:
                write_csv(refused.findings, findings_to)
            if as_json:
                typer.echo(told(project, batch, "refused", None, refused))
                raise typer.Exit(1) from refused
            raise
    if findings_to is not None:
        write_csv(published.findings, findings_to)
    interruption.keep(f"{batch} is published", "tick", project)
    if as_json:
        typer.echo(told(project, batch, published.outcome, published.commit, published))
        return
    if not published.findings.empty:
        typer.echo(findings_in_words(published.findings, lines=LINES))
        if published.outcome == "published":
            typer.echo(f"`visionops findings {project} {batch} --html FOLDER` shows them with the images")
    typer.echo(published.sums.in_words())
    typer.echo(published.splits.in_words())
    if published.outcome == "unchanged":
        typer.echo(f"{batch}: {published.images} images are on main already, nothing changed")
    else:
        typer.echo(f"{batch}: {published.images} images published in commit {(published.commit or '')[:12]}")
        typer.echo(f"`visionops tick {project}`, or the sensor of `visionops up`, does the rest")


def told(
    project: str,
    batch: str,
    outcome: str,
    commit: str | None,
    came: "Published | BatchRefused",
    **more: object,
) -> str:
    """What came of a batch, whole, as JSON; of what is refused `main` has nothing, hence no splits."""
    from visionops_assets.common.findings import grouped
    from visionops_assets.dataset.publishing import Published

    splits = {"splits": came.splits.as_dict()} if isinstance(came, Published) else {}
    content = {"project": project, "batch": batch, "outcome": outcome, "commit": commit, **more}
    content |= {**came.sums.as_dict(), **splits, "findings": grouped(came.findings)}
    return json.dumps(content, indent=1, ensure_ascii=False)
