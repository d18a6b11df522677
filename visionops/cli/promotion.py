"""`visionops approve`, `reject`, `override`, `promote` and `release`: what people answer to a verdict, and what that
promotes at once; or a version put on one device group.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resources.models.records import EVERYWHERE
from visionops import interruption
from visionops.runs import run_job
from visionops_assets.champions.history import production
from visionops_assets.champions.registered_model import Registry
from visionops_assets.common import run_tags
from visionops_assets.common.errors import OnHold, PromotionRefused
from visionops_assets.common.keys import committed_at
from visionops_assets.common.run_tags import how_to_have_a_decision
from visionops_assets.evaluation.verdict_store import ListedVerdict, listed_decision
from visionops_assets.promotion.promote import WaitingVerdicts, champion_of, newest_decision, waiting_of

if TYPE_CHECKING:
    import dagster as dg

    from resources.models.registry import ModelRegistry
    from visionops_assets.config.project import Project
    from visionops_assets.promotion.production_change import Change


@dataclass(frozen=True)
class Promoted:
    """A decision that went to production by hand; `run_id` is of the Dagster run that carried it out."""

    project: str
    verdict: str
    partition: str
    version: int
    replaced: int | None
    by: str
    run_id: str

    def to_json(self) -> dict[str, Any]:
        """What the commands print with --json."""
        return asdict(self)

    def to_text(self) -> str:
        """For a terminal."""
        instead = f" instead of version {self.replaced}" if self.replaced is not None else ""
        return f"{self.project}: version {self.version} ({self.partition}) is in production{instead}"


def waiting_verdicts(registry: Registry, project: str) -> WaitingVerdicts:
    """The verdicts of a project that could still promote."""
    model = registry.models.get(project)
    return waiting_of(model, champion_of(registry, model))


def named_or_only_verdict(registry: Registry, project: str, verdict: str | None) -> ListedVerdict:
    """The decision a person means: by its identity, or the one that waits. Raises `VerdictMissing`."""
    if verdict:
        return listed_decision(registry.models.get(project).tags, project, verdict)
    return waiting_verdicts(registry, project).only()


def named_or_newest_verdict(registry: Registry, project: str, verdict: str | None) -> ListedVerdict:
    """The decision a person means: by its identity, or the newest against the present champion, whatever it says.

    Raises `VerdictMissing`.
    """
    model = registry.models.get(project)
    if verdict:
        return listed_decision(model.tags, project, verdict)
    return newest_decision(model, champion_of(registry, model))


def carry_out(
    registry: Registry,
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    project: str,
    decision: ListedVerdict,
) -> Promoted:
    """Promote the challenger of a decision now, by the project's promote job, so that the UI shows it.

    Raises `OnHold` without starting a run, `PromotionRefused` with what the champion asset says.
    """
    from visionops_assets.shells.asset_options import dataset_versions

    now = production(registry.models.get(project))
    if now.held_by is not None:
        raise OnHold(
            f"the answer to verdict {decision.identity[:12]} is recorded, but promotion of {project} is on hold "
            f"({now.held_by.sentence()}): `visionops release {project} --why TEXT` "
            f"{_after_release(registry, decision, project)}"
        )
    if decision.partition is None:
        raise PromotionRefused(
            f"verdict {decision.identity[:12]} names no dataset version: {how_to_have_a_decision(project)}"
        )
    # A decision is known to MLflow; this instance may never have seen its dataset version.
    instance.add_dynamic_partitions(dataset_versions(project).name or "", [decision.partition])
    ran = run_job(
        defs,
        instance,
        f"{project}_promote",
        partition=decision.partition,
        config={f"{project}__champion": {"verdict": decision.identity}},
        tags=_tags_of_its_run(instance, project, decision.partition),
    )
    after = production(registry.models.get(project))
    since = after.since
    if after.version is None or since is None or since.verdict != decision.identity:
        raise PromotionRefused(
            f"verdict {decision.identity[:12]} of {project} is not carried out: {ran.error}"
        )
    if ran.error is not None:
        raise PromotionRefused(
            f"version {after.version} of {project} is in production, but run {ran.run_id} did not finish: {ran.error}"
        )
    return Promoted(
        project,
        decision.identity,
        decision.partition,
        after.version,
        since.from_version,
        since.who,
        ran.run_id,
    )


def _after_release(registry: Registry, decision: ListedVerdict, project: str) -> str:
    """What a release would do about a decision that was just answered, in words."""
    from visionops import services

    waits = waiting_verdicts(registry, project)
    ready = waits.ready(services.project(project).gate.approval)
    if ready is not None and ready.identity == decision.identity:
        return "lifts it and promotes"
    if ready is None or decision.identity not in {each.identity for each in waits.verdicts}:
        return "lifts it, but does not promote this: it was not judged against what is in production now"
    newer = ready.identity[:12]
    return (
        f"lifts it and promotes the newer verdict {newer}, unless `visionops reject {project} {newer} --why TEXT` "
        "keeps that one out"
    )


def _tags_of_its_run(instance: "dg.DagsterInstance", project: str, partition: str) -> dict[str, str]:
    """What the run that decided on a dataset version says of its commit; lakeFS need not be there for it."""
    import dagster as dg

    wanted = {run_tags.PROJECT: project, run_tags.INTENT: run_tags.DECISION, run_tags.PARTITION: partition}
    about = {run_tags.WEEK: run_tags.week_of(committed_at(partition))}
    for run in instance.get_runs(dg.RunsFilter(tags=wanted), limit=1):
        about |= {name: run.tags[name] for name in (run_tags.COMMIT, run_tags.BATCH) if name in run.tags}
    return about


def approve_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    verdict: Annotated[
        str | None,
        typer.Argument(help="Identity of the verdict, or its beginning; the one that waits if not given."),
    ] = None,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")] = "",
    group: Annotated[
        str,
        typer.Option(
            help="One device group alone, which gets it as a champion of its own; for all it still waits."
        ),
    ] = EVERYWHERE,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Approve a PASS that waits, where the project says `approval: manual`, and promote it at once.

    Who approves is VISIONOPS_ACTOR. A verdict that did not pass takes `visionops override`.
    """
    from visionops import services
    from visionops_assets.evaluation import approvals

    actor, registry = services.actor(), services.registry()
    found = services.project(project)
    if group != EVERYWHERE:
        _approve_on_group(found, registry, group, verdict, why, as_json)
        return
    decision = named_or_only_verdict(registry, project, verdict)
    approvals.approve(registry, project, decision.identity, who=actor, when=datetime.now(UTC), why=why)
    import definitions

    with services.dagster() as instance:
        promoted = carry_out(registry, definitions.defs, instance, project, decision)
    typer.echo(json.dumps(promoted.to_json(), indent=1) if as_json else promoted.to_text())


def _approve_on_group(
    found: "Project", registry: "ModelRegistry", group: str, verdict: str | None, why: str, as_json: bool
) -> None:
    from visionops import services
    from visionops_assets.promotion.group_approvals import approve_on_group
    from visionops_assets.promotion.production_change import Attribution

    interruption.keep("the group was changed whole or not at all")
    services.check_new_group(found, registry, group)
    by = Attribution(services.actor(), datetime.now(UTC), why)
    change = approve_on_group(registry, project=found.project, group=group, by=by, verdict=verdict)
    _tell_of_group(found, group, change, as_json)


def reject_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    verdict: Annotated[
        str | None,
        typer.Argument(help="Identity of the verdict, or its beginning; the one that waits if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Keep a PASS from going to production, whatever the numbers say. Who rejects is VISIONOPS_ACTOR."""
    from visionops import services
    from visionops_assets.evaluation import approvals

    actor, registry = services.actor(), services.registry()
    services.project(project)
    decision = named_or_only_verdict(registry, project, verdict)
    answer = approvals.reject(
        registry, project, decision.identity, who=actor, when=datetime.now(UTC), why=why
    )
    if as_json:
        typer.echo(json.dumps(answer.model_dump(mode="json"), indent=1))
    else:
        typer.echo(
            f"{project}: verdict {decision.identity[:12]} ({decision.partition}) is rejected: {answer.why}"
        )


def override_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    verdict: Annotated[
        str | None,
        typer.Argument(
            help="Identity of the decision, or its beginning; the newest against the present champion."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Promote a challenger against its verdict. It is marked as an override for ever; the verdict stays what it is.

    Who decides is VISIONOPS_ACTOR. A PASS needs no override: it is promoted by itself, or by `approve`.
    """
    from visionops import services
    from visionops_assets.evaluation import approvals

    actor, registry = services.actor(), services.registry()
    services.project(project)
    decision = named_or_newest_verdict(registry, project, verdict)
    approvals.override(registry, project, decision.identity, who=actor, when=datetime.now(UTC), why=why)
    import definitions

    with services.dagster() as instance:
        promoted = carry_out(registry, definitions.defs, instance, project, decision)
    text = f"{promoted.to_text()}, against verdict {decision.identity[:12]} ({decision.outcome})"
    typer.echo(json.dumps(promoted.to_json(), indent=1) if as_json else text)


def promote_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    group: Annotated[
        str,
        typer.Option(
            help="The device group, which gets a champion of its own; nothing is judged or trained."
        ),
    ] = EVERYWHERE,
    version: Annotated[
        int | None,
        typer.Option(
            "--model-version",
            metavar="N",
            help="A version that was in production; by default what all runs.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Put a version that was in production on one device group, named by --group.

    A group follows what all runs until it gets a champion of its own; `visionops rollback PROJECT --group G
    --model-version none` lets it follow again. Who decides is VISIONOPS_ACTOR.
    """
    if group == EVERYWHERE:
        raise PromotionRefused(
            f"name the device group with --group: `visionops promote {project} --group G --why TEXT`. For all, a PASS "
            f"is promoted by itself or by `visionops approve {project}`, and against its verdict by "
            f"`visionops override {project} --why TEXT`"
        )
    _on_group(project, group, version, why, as_json)


def _on_group(project: str, group: str, version: int | None, why: str, as_json: bool) -> None:
    from visionops import services
    from visionops_assets.promotion.production_change import Attribution, deliver_to_group

    interruption.keep("the group was changed whole or not at all")
    found, registry = services.project(project), services.registry()
    services.check_new_group(found, registry, group)
    change = deliver_to_group(
        registry,
        project=project,
        group=group,
        by=Attribution(services.actor(), datetime.now(UTC), why),
        version=version,
    )
    _tell_of_group(found, group, change, as_json)


def _tell_of_group(found: "Project", group: str, change: "Change", as_json: bool) -> None:
    """Have `in_production` and whoever typed it know what a device group got."""
    from visionops.cli.rollback import tell_production

    project = found.project
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
    elif change.changed:
        typer.echo(
            f"no device follows it, for `delivery.groups` of {project} does not name {group}: servers of that group "
            f"run it; was another one meant, `visionops rollback {project} --group {group} --model-version none "
            "--why TEXT` takes it back"
        )


def release_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Lift a hold, and promote the newest challenger that passed against the present champion meanwhile.

    Who releases is VISIONOPS_ACTOR. `visionops status` says beforehand what would be promoted; `reject` keeps it out.
    """
    from resources.models.records import EVERYWHERE
    from visionops import services
    from visionops_assets.common.errors import ChampionUnclear
    from visionops_assets.promotion.production_change import Attribution
    from visionops_assets.promotion.rollback import release

    actor, registry = services.actor(), services.registry()
    gate = services.project(project).gate
    change = release(registry, project=project, by=Attribution(actor, datetime.now(UTC), why), group=group)
    promoted, ready = None, None
    try:
        waits = waiting_verdicts(registry, project)
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
