"""`visionops status`: what is in production, how it came there, what waits."""

import json
from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show the champion, its history, verdicts, holds, the significance left, and what was done about production."""
    from resources import home
    from visionops import services
    from visionops.missing_pieces import state_of
    from visionops.renaming import left_behind
    from visionops_assets.monitoring.acting.actions import read_actions
    from visionops_assets.monitoring.acting.status import actions_blocks, actions_json
    from visionops_assets.project import load_projects
    from visionops_assets.promotion.page import Page
    from visionops_assets.promotion.status import status

    found, registry = services.project(project), services.registry()
    state = status(
        registry,
        project,
        alpha=found.gate.alpha,
        approval=found.gate.approval,
        group=group,
        rules=found.gate.digest(),
    )
    actions = read_actions(registry.models.get(project).tags).entries
    told = state_of(found, registry)
    wrong, gone = told.wrong, told.gone
    if state.champion is None and not state.now.foreign:
        # Of a project that was renamed in its file alone, the champion is still the old name's.
        wrong = wrong + [
            each.sentence() for each in left_behind(registry, load_projects(home.projects_folder()))
        ]
    if as_json:
        content = {**state.to_json(), "actions": actions_json(actions), "wrong": wrong, "gone": gone}
        typer.echo(json.dumps(content, indent=1))
        return
    for each in wrong:
        typer.echo(f"wrong: {each}\n")
    for each in gone:
        typer.echo(f"gone: {each}\n")
    page = state.to_page()
    typer.echo(Page(page.title, (*page.blocks, *actions_blocks(project, actions))).to_text())
