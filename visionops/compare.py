"""`visionops compare`: two versions, runs, dataset versions, commits or branches, side by side."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionops import interruption

if TYPE_CHECKING:
    from visionops.comparing.comparison import Comparing
    from visionops_assets.project import Project


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROJECT] [A] [B]",
            help="A and B: a registered version, `champion`, `challenger`, an MLflow run, a dataset version, commit, "
            "branch, tag or batch. Without them the newest challenger against the champion; without B against the "
            "champion.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="Dataset version, commit or branch on whose holdout both are compared."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print as Markdown, for a pull request.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the page, with pictures of the images won and lost, to this file."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Compare A with B: metrics with intervals, slices, costs, and what differs in data, recipe and code.

    Answers are the stored ones where both were judged on one holdout; otherwise the files that ship answer now.
    Nothing is decided: no significance is spent, no verdict stored, no alias moved.
    """
    interruption.keep("nothing was decided, and what was stored stays")
    from visionops.comparing.report import report
    from visionops_assets.pages.html_page import write_html
    from visionops_assets.promotion.turned_page import images_at

    project, sides = _read(words or [])
    comparing = comparing_of(project, quiet=as_json or markdown)
    if not sides:
        found = comparing.usual(on)
    else:
        found = comparing.named(sides[0], sides[1] if len(sides) > 1 else "champion", on)
    if html is not None:
        commit = found.measured.commit if found.measured is not None else ""
        write_html(report(found, images_at(comparing.lakefs, project.repository, commit)), html)
        # Not on standard output, which a program may read.
        typer.echo(f"written: {html}", err=True)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    page = report(found)
    typer.echo(page.to_markdown() if markdown else page.to_text(), nl=False)


def comparing_of(project: "Project", *, quiet: bool) -> "Comparing":
    """What compares in a project, on the services of the environment; long work is told on standard error."""
    from resources import home
    from resources.scratch import Scratch
    from visionops import services
    from visionops.comparing.comparison import Comparing

    return Comparing(
        project,
        services.registry(),
        services.lakefs(),
        services.artifacts(),
        Scratch(root=str(home.cache())),
        (lambda _: None) if quiet else (lambda line: typer.echo(line, err=True)),
    )


def _read(words: list[str]) -> "tuple[Project, list[str]]":
    """The project, and what is compared. A first word that is a project's name is the project."""
    from resources import home
    from resources.nearest import there_are
    from visionops.comparing.sides import ComparisonError
    from visionops_assets.project import find_project, load_projects

    projects = load_projects(home.projects_folder())
    names = [project.project for project in projects]
    if words and words[0] in names:
        chosen, sides = words[0], words[1:]
    elif len(names) == 1:
        chosen, sides = names[0], words
    elif len(words) == 3:
        chosen, sides = words[0], words[1:]
    else:
        first = words[0] if words else ""
        raise ComparisonError(f"name the project first; {there_are(first, names)}")
    if len(sides) > 2:
        raise ComparisonError(f"two things are compared, not {len(sides)}: {', '.join(sides)}")
    return find_project(projects, chosen), sides
