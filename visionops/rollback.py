"""`visionops rollback`: take a bad model out of production at once."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from visionops import interruption

if TYPE_CHECKING:
    from visionops_assets.promotion.change import Change


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    to: Annotated[
        int | None, typer.Option(help="The version to go back to; by default the one the champion replaced.")
    ] = None,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")] = "",
    leaving: Annotated[
        int | None,
        typer.Option(help="The version to get away from; nothing happens if another runs by then."),
    ] = None,
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Make an earlier version champion again, at once, and put promotion on hold until `visionops release`.

    Who decides is VISIONOPS_ACTOR. No check can block it, and it needs neither lakeFS nor Dagster: they are told
    after the alias is set.
    """
    interruption.keep("the model was changed whole or not at all")
    from resources.nearest import there_are
    from visionops import services
    from visionops_assets.promotion.rollback import rollback
    from visionops_assets.refusals import NothingToRollBackTo

    # No project file is read before the alias is set: a broken one must not keep a bad model in production.
    registry = services.registry()
    try:
        change = rollback(
            registry,
            project=project,
            who=services.actor(),
            why=why,
            when=datetime.now(UTC),
            to=to,
            leaving=leaving,
            group=group,
        )
    except NothingToRollBackTo as refusal:
        registered = registry.models.projects()
        if project in registered:
            raise
        raise NothingToRollBackTo(f"{refusal}; {there_are(project, registered)}") from refusal
    assert change.version is not None
    again = f"`visionops rollback {project} --to {change.version} --why TEXT` tells it again"
    try:
        error = _tell_dagster(project, change, why, group)
    except Exception as problem:
        raise RuntimeError(
            f"version {change.version} of {project} is champion again, but Dagster could not be told: {problem}; "
            f"{again}"
        ) from problem
    if error is not None:
        raise RuntimeError(
            f"version {change.version} of {project} is champion again, but in_production was not materialised: "
            f"{error}; {again}"
        )
    if as_json:
        typer.echo(json.dumps(change.to_json(), indent=1))
        return
    what = change.entry.sentence() if change.entry is not None else f"version {change.version} runs"
    typer.echo(f"{project}: {what}" + ("" if change.changed else " (it was so already)"))
    if change.changed:
        typer.echo(f"promotion is on hold; `visionops release {project} --why TEXT` lifts it")


def _tell_dagster(project: str, change: "Change", why: str, group: str) -> str | None:
    """Materialise `in_production` by the project's rollback job, which finds the alias set; returns its error."""
    import definitions
    from visionops import services
    from visionops.runs import run_job

    config = {"to": change.version, "why": why, "actor": services.actor(), "group": group}
    if change.changed and change.entry is not None:
        config["leaving"] = change.entry.from_version
    with services.dagster() as instance:
        job = f"{project}_rollback"
        return run_job(definitions.defs, instance, job, config={f"{project}_roll_back": config}).error
