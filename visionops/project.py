"""`visionops project`: what the project files declare, and a project under another name."""

import json
from typing import Annotated

import typer

app = typer.Typer(help="The projects there are, and renaming one.", no_args_is_help=True)


@app.command("list")
def list_projects(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the projects that files declare, those whose file cannot be used, and those that no file declares."""
    from resources import home
    from visionops import services
    from visionops.renaming import left_behind
    from visionops_assets.project import load_projects

    projects = load_projects(home.projects_folder())
    behind = left_behind(services.registry(), projects)
    if as_json:
        listed = {
            "projects": [
                {"project": one.project, "task": one.task, "repository": one.repository} for one in projects
            ],
            "unusable": [{"project": one.project, "why": one.why} for one in projects.unusable],
            "undeclared": [{"project": one.project, "version": one.version} for one in behind],
        }
        typer.echo(json.dumps(listed, indent=1))
        return
    for one in projects:
        typer.echo(f"{one.project}: {one.task} of {len(one.classes)} classes in {one.repository}")
    for file in projects.unusable:
        typer.echo(f"{file.project}: cannot be used: {file.why}")
    for each in behind:
        typer.echo(each.sentence())
    if not projects and not projects.unusable and not behind:
        typer.echo("there is no project yet: `visionops init NAME --from FOLDER` makes one")


@app.command("rename")
def rename(
    old: Annotated[str, typer.Argument(help="The name until now.")],
    new: Annotated[str, typer.Argument(help="The name from now on.")],
) -> None:
    """Give a project another name: champion, history, runs, tables, production log and project file go with it.

    It does not matter whether the file has the new name already. Asked again, it goes on where it was killed.
    """
    from resources import home
    from resources.artifact_store import ArtifactStore
    from visionops import services
    from visionops.renaming import Renaming
    from visionops_assets.project import load_projects

    with services.dagster() as instance:
        renaming = Renaming(
            services.registry(),
            services.lakefs(),
            services.artifacts(),
            instance,
            [ArtifactStore(root=home.spool()), ArtifactStore(root=home.drop())],
            typer.echo,
        )
        renaming.rename(old, new, load_projects(home.projects_folder()), home.projects_folder())
    typer.echo(f"{old} is called {new} now: `visionops status {new}` shows it")
