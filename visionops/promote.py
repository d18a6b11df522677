"""`visionops promote --override`: put a challenger into production against its verdict."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    verdict: Annotated[
        str | None,
        typer.Argument(
            help="Identity of the decision, or its beginning; the newest against the present champion."
        ),
    ] = None,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")] = "",
    override: Annotated[bool, typer.Option("--override", help="Say that you mean it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Promote a challenger against its verdict, marked as an override for ever; the verdict stays what it is.

    Who decides is VISIONOPS_ACTOR. A PASS needs no override: it is promoted by itself, or by `approve`.
    """
    from visionops import services
    from visionops.decisions import carry_out, named_or_newest
    from visionops_assets.promotion import answers
    from visionops_assets.refusals import ReasonMissing

    if not override:
        raise ReasonMissing(
            f"a PASS is promoted by itself or by `visionops approve {project}`; to promote against a verdict, "
            "add --override --why TEXT"
        )
    actor, registry = services.actor(), services.registry()
    services.project(project)
    decision = named_or_newest(registry, project, verdict)
    answers.override(registry, project, decision.identity, who=actor, when=datetime.now(UTC), why=why)
    import definitions

    with services.dagster() as instance:
        promoted = carry_out(registry, definitions.defs, instance, project, decision)
    text = f"{promoted.to_text()}, against verdict {decision.identity[:12]} ({decision.outcome})"
    typer.echo(json.dumps(promoted.to_json(), indent=1) if as_json else text)
