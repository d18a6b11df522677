"""`visionops reject`: keep a verdict from promoting."""

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
    """Keep a PASS from going to production, whatever the numbers say. Who rejects is VISIONOPS_ACTOR."""
    from visionops import services
    from visionops.decisions import named_or_only
    from visionops_assets.evaluation import approvals

    actor, registry = services.actor(), services.registry()
    services.project(project)
    decision = named_or_only(registry, project, verdict)
    answer = approvals.reject(
        registry, project, decision.identity, who=actor, when=datetime.now(UTC), why=why
    )
    if as_json:
        typer.echo(json.dumps(answer.model_dump(mode="json"), indent=1))
    else:
        typer.echo(
            f"{project}: verdict {decision.identity[:12]} ({decision.partition}) is rejected: {answer.why}"
        )
