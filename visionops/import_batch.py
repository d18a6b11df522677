"""`visionops import`: take a batch by hand."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    source: Annotated[Path, typer.Argument(help="Folder of images with their labels.")],
    batch: Annotated[str, typer.Option(help="Name the batch will have, for example week-07.")],
    format_name: Annotated[
        str | None, typer.Option("--format", help="How the source keeps its labels; detected if not given.")
    ] = None,
) -> None:
    """Import a batch on a branch of its own, check it, and merge it to main only if it passes.

    Importing the same batch again changes nothing; a corrected one replaces it.
    """
    from visionops import services
    from visionops.progress import progress_bars
    from visionops_assets.dataset.findings import findings_in_words
    from visionops_assets.dataset.publishing import Publisher

    found = services.project(project)
    with progress_bars(batch) as progress:
        publisher = Publisher(found, services.lakefs(), services.artifacts(), progress)
        published = publisher.publish(source, batch, format_name)
    if not published.findings.empty:
        typer.echo(findings_in_words(published.findings))
    if published.outcome == "unchanged":
        typer.echo(f"{batch}: {published.images} images are on main already, nothing changed")
    else:
        typer.echo(f"{batch}: {published.images} images published in commit {(published.commit or '')[:12]}")
        typer.echo(f"`visionops tick {project}`, or the sensor of `visionops up`, does the rest")
