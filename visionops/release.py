"""`visionops release`: lift a hold."""

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
    """Lift a hold, and promote the newest challenger that passed against the present champion meanwhile.

    Who releases is VISIONOPS_ACTOR. `visionops status` says beforehand what would be promoted; `reject` keeps it out.
    """
    from resources.model_records import EVERYWHERE
    from visionops import services
    from visionops.decisions import carry_out, waiting
    from visionops_assets.promotion.rollback import release
    from visionops_assets.refusals import ChampionUnclear

    actor, registry = services.actor(), services.registry()
    gate = services.project(project).gate
    change = release(registry, project=project, who=actor, why=why, when=datetime.now(UTC), group=group)
    promoted, ready = None, None
    try:
        waits = waiting(registry, project)
        why_not = waits.why_none_is_ready(gate.approval)
        ready = waits.ready(gate.approval) if group == EVERYWHERE else None
    except ChampionUnclear as unclear:
        # The hold is lifted all the same.
        why_not = f"nothing is promoted: {unclear}"
    if ready is not None:
        import definitions

        with services.dagster() as instance:
            promoted = carry_out(registry, definitions.defs, instance, project, ready)
    if as_json:
        found = {
            **change.to_json(),
            "promoted": None if promoted is None else promoted.to_json(),
            "why_not": why_not if promoted is None else "",
        }
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(f"{project}: {change.entry.sentence() if change.entry else 'promotion was not on hold'}")
    typer.echo(promoted.to_text() if promoted is not None else why_not)
