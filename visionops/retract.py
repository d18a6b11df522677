"""`visionops retract`: take a published batch back out of `main`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    batch: Annotated[str, typer.Argument(help="Name of the batch, for example week-07.")],
    why: Annotated[str, typer.Option(help="Why; kept in the commit for ever.")] = "",
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
