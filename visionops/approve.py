"""`visionops approve`: let a PASS go to production."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    verdict: Annotated[
        str | None,
        typer.Argument(help="Identity of the verdict, or its beginning; the one that waits if not given."),
    ] = None,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Approve a PASS that waits, where the project says `approval: manual`, and promote it at once.

    Who approves is VISIONOPS_ACTOR. A verdict that did not pass takes `promote --override`.
    """
    from visionops import services
    from visionops.decisions import carry_out, named_or_only
    from visionops_assets.evaluation import approvals

    actor, registry = services.actor(), services.registry()
    services.project(project)
    decision = named_or_only(registry, project, verdict)
    approvals.approve(registry, project, decision.identity, who=actor, when=datetime.now(UTC), why=why)
    import definitions

    with services.dagster() as instance:
        promoted = carry_out(registry, definitions.defs, instance, project, decision)
    typer.echo(json.dumps(promoted.to_json(), indent=1) if as_json else promoted.to_text())
