"""`visionops hold`: let challengers be judged, but none be promoted."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    why: Annotated[str, typer.Option(help="Why; kept for ever.")] = "",
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Put promotion on hold until `visionops release`. Challengers are still trained and judged.

    Who holds is VISIONOPS_ACTOR. On hold already: changes nothing.
    """
    from visionops import services
    from visionops_assets.promotion.rollback import hold

    actor = services.actor()
    services.project(project)
    change = hold(
        services.registry(), project=project, who=actor, why=why, when=datetime.now(UTC), group=group
    )
    assert change.entry is not None
    if as_json:
        typer.echo(json.dumps(change.to_json(), indent=1))
    else:
        already = "" if change.changed else "on hold already. "
        typer.echo(f"{project}: {already}{change.entry.sentence()}")
