"""`visionops status`: what is in production, how it came there, what waits."""

import json
from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show the champion, its history, the verdicts, holds, and the significance that is left."""
    from visionops import services
    from visionops_assets.promotion.status import status

    found = services.project(project)
    state = status(
        services.registry(),
        project,
        alpha=found.gate.alpha,
        approval=found.gate.approval,
        group=group,
    )
    typer.echo(json.dumps(state.to_json(), indent=1) if as_json else state.to_text())
