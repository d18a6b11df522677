"""`visionops why`: why a model is in production."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[
        int | None, typer.Option(help="A registered version; by default what runs now.")
    ] = None,
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the page, with pictures of the images won and lost, to this file."
        ),
    ] = None,
) -> None:
    """Say why this model: its verdict, the images won and lost, what it was trained on, what changed against the one
    before."""
    from visionops import services
    from visionops_assets.pages.html_page import write_html
    from visionops_assets.pages.page import Page
    from visionops_assets.promotion.explain import why
    from visionops_assets.promotion.production_report import links_to
    from visionops_assets.promotion.turned_page import images_at, listed, of_evidence, pictured

    found = services.project(project)
    registry, lakefs = services.registry(), services.lakefs()
    links = links_to(lakefs, registry)
    explained = why(registry, services.artifacts(), project, version, group, links, found.gate)
    turned, page = of_evidence(registry, explained.evidence), explained.page
    if html is not None:
        read = images_at(lakefs, found.repository, turned[2]) if turned is not None else None
        shown = tuple(pictured(turned[0], turned[1], read)) if turned is not None and read is not None else ()
        write_html(Page(page.title, (*page.blocks, *shown)), html)
    how = f"`visionops why {project} --html FILE` shows them."
    words = tuple(listed(turned[0], turned[1], how)) if turned is not None else ()
    typer.echo(Page(page.title, (*page.blocks, *words)).to_text())
    if (need := services.pages_need()) is not None:
        typer.echo(need)
    if html is not None:
        typer.echo(f"written: {html}")
