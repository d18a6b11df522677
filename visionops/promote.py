"""`visionops promote`: put a challenger into production against its verdict, or a version on a device group."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from resources.model_records import EVERYWHERE
from visionops import interruption


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
    group: Annotated[
        str,
        typer.Option(help="A device group, which gets a champion of its own; nothing is judged or trained."),
    ] = EVERYWHERE,
    version: Annotated[
        int | None,
        typer.Option(help="With --group: a version that was in production; by default what all runs."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Promote a challenger against its verdict, or a version that was in production on one device group.

    The first is marked as an override for ever, and the verdict stays what it is. A group follows what all runs until
    it gets a champion of its own by --group; `visionops rollback PROJECT --group G --to none` lets it follow again.

    Who decides is VISIONOPS_ACTOR. A PASS needs no override: it is promoted by itself, or by `approve`.
    """
    if group != EVERYWHERE:
        if override or verdict is not None:
            raise typer.BadParameter(
                "an override makes a champion of all; a group takes what was in production: --version N",
                param_hint="--group",
            )
        _on_group(project, group, version, why, as_json)
        return
    if version is not None:
        raise typer.BadParameter("belongs to --group", param_hint="--version")
    from visionops import services
    from visionops.decisions import carry_out, named_or_newest
    from visionops_assets.evaluation import approvals
    from visionops_assets.refusals import ReasonMissing

    if not override:
        raise ReasonMissing(
            f"a PASS is promoted by itself or by `visionops approve {project}`; to promote against a verdict, "
            "add --override --why TEXT"
        )
    actor, registry = services.actor(), services.registry()
    services.project(project)
    decision = named_or_newest(registry, project, verdict)
    approvals.override(registry, project, decision.identity, who=actor, when=datetime.now(UTC), why=why)
    import definitions

    with services.dagster() as instance:
        promoted = carry_out(registry, definitions.defs, instance, project, decision)
    text = f"{promoted.to_text()}, against verdict {decision.identity[:12]} ({decision.outcome})"
    typer.echo(json.dumps(promoted.to_json(), indent=1) if as_json else text)


def _on_group(project: str, group: str, version: int | None, why: str, as_json: bool) -> None:
    from visionops import services
    from visionops.rollback import tell_production
    from visionops_assets.promotion.delivery import deliver

    interruption.keep("the group was changed whole or not at all")
    found, registry = services.project(project), services.registry()
    services.check_new_group(found, registry, group)
    change = deliver(
        registry,
        project=project,
        group=group,
        who=services.actor(),
        why=why,
        when=datetime.now(UTC),
        version=version,
    )
    if change.changed:
        tell_production(project, group)
    if as_json:
        typer.echo(json.dumps(change.to_json(), indent=1))
        return
    typer.echo(change.in_words(project, f" on {group}"))
    if change.note:
        typer.echo(change.note)
    if change.changed and group in found.delivery.groups:
        typer.echo(
            f"the sensor or `visionops tick {project}` publishes it; devices take it at their next look"
        )
