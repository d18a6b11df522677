"""`visionops why`: why a model is in production."""

from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[
        int | None, typer.Option(help="A registered version; by default what runs now.")
    ] = None,
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
) -> None:
    """Say why this model: its verdict, what it was trained on, what changed against the one before."""
    from visionops import services
    from visionops_assets.promotion.explain import why
    from visionops_assets.promotion.production_report import links_to

    services.project(project)
    registry, lakefs = services.registry(), services.lakefs()
    links = links_to(lakefs, registry)
    typer.echo(why(registry, services.artifacts(), project, version, group, links).to_text())
