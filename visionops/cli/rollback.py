"""`visionops rollback` and `hold`: a bad model leaves production at once, and until `visionops release` none is
promoted.
"""

import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from resources.error_family import Unavailable
from resources.models.records import EVERYWHERE, group_option
from visionops import interruption

if TYPE_CHECKING:
    from resources.models.registry import ModelRegistry
    from visionops_assets.config.device_group_rules import DeliveryRules
    from visionops_assets.promotion.production_change import Change


# What `--model-version` names where no version is to run.
NOTHING = "none"


def rollback_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--model-version",
            metavar="N",
            help="The version to go back to, by default the one the champion replaced; or `none`: nothing runs.",
        ),
    ] = None,
    leaving: Annotated[
        int | None,
        typer.Option(help="The version to get away from; nothing happens if another runs by then."),
    ] = None,
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    only: Annotated[
        bool,
        typer.Option(
            "--only",
            help="Leave device groups as they are that run the same by a champion of their own.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Make an earlier version champion again, at once, and put promotion on hold until `visionops release`.

    What somebody moved or deleted in MLflow is set again, without a hold. With `--model-version none` nothing is in
    production, on record, and the next challenger is a first champion.

    A rollback of all takes along the device groups that follow it (`delivery.groups`) and run the version it leaves.

    Who decides is VISIONOPS_ACTOR. No check can block it, and it needs neither lakeFS nor Dagster: they are told
    after the alias is set.
    """
    interruption.keep("the model was changed whole or not at all")
    from resources.nearest import there_are
    from visionops import services
    from visionops_assets.common.errors import NothingToRollBackTo
    from visionops_assets.promotion.production_change import Attribution
    from visionops_assets.promotion.rollback import retire, rollback, take_along

    # No project file is read before the alias is set: a broken one must not keep a bad model in production.
    registry = services.registry()
    try:
        by = Attribution(services.actor(), datetime.now(UTC), why)
        if to is None and leaving is None:
            leaving = _left_by_a_killed_one(registry, project, by.who, why, group)
        if to == NOTHING:
            change = retire(registry, project=project, by=by, group=group)
        else:
            change = rollback(
                registry,
                project=project,
                by=by,
                to=_version(to),
                leaving=leaving,
                group=group,
            )
    except NothingToRollBackTo as refusal:
        registered = registry.models.projects()
        if project in registered:
            said = _of_a_follower(registry, project, group)
            if said is None:
                raise
            raise NothingToRollBackTo(said) from refusal
        raise NothingToRollBackTo(f"{refusal}; {there_are(project, registered)}") from refusal
    along = (
        {}
        if only or group != EVERYWHERE
        else take_along(registry, change, project=project, follow=_following(project), by=by)
    )
    _tell(project, change, why, group, only)
    if as_json:
        groups = {name: each.to_json() for name, each in along.items()}
        typer.echo(json.dumps({**change.to_json(), **({"groups": groups} if groups else {})}, indent=1))
        return
    typer.echo(change.in_words(project))
    for each in along.values():
        assert each.entry is not None
        typer.echo(f"{project}: {each.entry.sentence()}")
    if change.note:
        typer.echo(change.note)
    if change.changed and change.entry is not None and change.entry.kind == "rollback":
        release = f"visionops release {project}{group_option(group)} --why TEXT"
        typer.echo(f"promotion is on hold; `{release}` lifts it")
    if change.changed and _reaches_devices(project, group):
        typer.echo(
            f"the sensor or `visionops tick {project}` publishes it to devices, which take it at their next look"
        )
    if change.version is None:
        typer.echo(
            "nothing is in production; the next challenger that holds the floors is a first champion"
            if group == EVERYWHERE
            else f"{group} has no model of its own any more: it runs that of all, if there is one"
        )


def _reaches_devices(project: str, group: str) -> bool:
    """Whether a change of this group, or of all, is published to devices by the project file as it is."""
    return any(
        group in rules.groups or (group == EVERYWHERE and rules.following) for rules in _declared(project)
    )


def _following(project: str) -> list[str]:
    """The device groups that follow all. A file that cannot be read names none, and must not keep a bad model in
    production."""
    return [name for rules in _declared(project) for name in rules.following]


def _of_a_follower(registry: "ModelRegistry", project: str, group: str) -> str | None:
    """What is said of a declared device group that never had a champion of its own; None of any other."""
    from visionops_assets.champions.history import production
    from visionops_assets.delivery.following import names_one, ways_to_change

    model = registry.models.get(project)
    for rules in _declared(project):
        if group in rules.groups and not names_one(production(model, group)):
            every = production(model).version
            follows = f": it follows all, which runs {'nothing' if every is None else f'version {every}'}"
            ways = ways_to_change(model, group, rules.groups[group])
            return (
                f"{group} of {project} has no champion of its own to roll back"
                f"{follows if group in rules.following else ''}{'; ' if ways else ''}{ways}"
            )
    return None


def _declared(project: str) -> "list[DeliveryRules]":
    """What the project's file says of devices; nothing where it cannot be read."""
    from resources import home
    from visionops_assets.config.project import load_projects

    return [each.delivery for each in load_projects(home.projects_folder()) if each.project == project]


def _left_by_a_killed_one(
    registry: "ModelRegistry", project: str, who: str, why: str, group: str
) -> int | None:
    """The version that this very command got away from when it was killed before it told Dagster: typed again, it is
    not to go back twice. None where Dagster was told, or cannot say."""
    from visionops import services
    from visionops_assets.champions.history import production, read_history

    model = registry.models.get(project)
    made = production(model, group).since
    if made is None or (made.kind, made.who, made.why) != ("rollback", who, why):
        return None
    # Nothing that Dagster does may block a rollback.
    with contextlib.suppress(Exception), services.dagster() as instance:
        from dagster import AssetKey

        from visionops_assets.promotion.presentation import untold_change
        from visionops_assets.shells.asset_options import IN_PRODUCTION

        untold = untold_change(instance, registry, project, AssetKey([project, IN_PRODUCTION]))
        if untold is None or untold.number < made.number:
            return None
        # Those of the groups that were taken along come after it.
        since = [each for each in read_history(model.tags).entries if each.number > made.number]
        along = all((each.kind, each.who, each.why) == ("rollback", who, why) for each in since)
        return made.from_version if along else None
    return None


def _on(group: str) -> str:
    return "" if group == EVERYWHERE else f" on {group}"


def _version(text: str | None) -> int | None:
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise typer.BadParameter(
        f"{text} is no version: name its number, or `none`", param_hint="--model-version"
    )


def _tell(project: str, change: "Change", why: str, group: str, only: bool) -> None:
    """Have `in_production` tell of a change. Raises `Unavailable` where that fails: the change itself stands."""
    to = NOTHING if change.version is None else change.version
    again = (
        f"`visionops rollback {project} --model-version {to}{group_option(group)} --why TEXT` tells it again"
    )
    done = (
        f"nothing of {project} is in production{_on(group)} now, but"
        if change.version is None
        else f"version {change.version} of {project} is champion again{_on(group)}, but"
    )
    try:
        error = _tell_dagster(project, change, why, group, only)
    except Exception as problem:
        raise Unavailable(f"{done} Dagster could not be told: {problem}; {again}") from problem
    if error is not None:
        raise Unavailable(f"{done} in_production was not materialised: {error}; {again}")


def _tell_dagster(project: str, change: "Change", why: str, group: str, only: bool) -> str | None:
    """Materialise `in_production` by the project's rollback job, which finds the alias set; returns its error.

    That nothing runs is told without a job: none takes a model out of production.
    """
    from visionops import services

    if change.version is None:
        tell_production(project, group)
        return None
    import definitions
    from visionops.runs import run_job

    config: dict[str, object] = {
        "to": change.version,
        "why": why,
        "actor": services.actor(),
        "group": group,
        "only": only,
    }
    if change.changed and change.entry is not None:
        config["leaving"] = change.entry.from_version
    with services.dagster() as instance:
        job = f"{project}_rollback"
        return run_job(definitions.defs, instance, job, config={f"{project}_roll_back": config}).error


def tell_production(project: str, group: str) -> None:
    """Materialise `in_production` without a run: what a device group runs, or that nothing does."""
    from resources import home
    from visionops import services
    from visionops_assets.config.project import load_projects
    from visionops_assets.promotion.presentation import production_materialisation
    from visionops_assets.shells.asset_options import IN_PRODUCTION, asset_key

    declared = load_projects(home.projects_folder())
    named = {one.project for one in declared.usable} | {file.project for file in declared.unusable}
    if project not in named:
        # What no file declares is no asset.
        return
    found = services.project(project)
    with services.dagster() as instance:
        event = production_materialisation(
            instance,
            found,
            asset_key(found, IN_PRODUCTION),
            group,
            lakefs=services.lakefs(),
            registry=services.registry(),
            artifacts=services.artifacts(),
        )
        instance.report_runless_asset_event(event)


def hold_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Put promotion on hold until `visionops release`. Challengers are still trained and judged.

    Who holds is VISIONOPS_ACTOR. On hold already: changes nothing.
    """
    from visionops import services
    from visionops_assets.promotion.production_change import Attribution
    from visionops_assets.promotion.rollback import hold

    actor = services.actor()
    services.project(project)
    change = hold(
        services.registry(), project=project, by=Attribution(actor, datetime.now(UTC), why), group=group
    )
    assert change.entry is not None
    if as_json:
        typer.echo(json.dumps(change.to_json(), indent=1))
    else:
        already = "" if change.changed else "on hold already. "
        typer.echo(f"{project}: {already}{change.entry.sentence()}")
