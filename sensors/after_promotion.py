"""What follows a change of what runs: device groups are given what the aliases say, and what ages is signed anew.
What keeps a group from it is told in a sentence with its command.

A change that `in_production` does not show is told: who made it was stopped, or Dagster was away.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import dagster as dg

from resources import clocks
from resources.error_family import Invalid, VisionOpsError
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSError
from resources.models.records import RegistryError, RegistryUnavailable
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactDamaged, ArtifactStore
from sensors.readiness import Wait, owned_sensor, skip_wrong, stopped, waiting_for
from sensors.unfinished_runs import at_the_next_tick, end_stale_runs, told_with_command
from visionops_assets.champions.history import read_history
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.graph import ProjectGraph
from visionops_assets.shells.asset_options import IN_PRODUCTION, asset_key
from visionops_assets.shells.run_outcomes import is_attempt

if TYPE_CHECKING:
    from visionops_assets.delivery.rolling_out import Ahead

_CHANGING = ("decide", "promote", "rollback")
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def delivery_sensor(graph: ProjectGraph) -> dg.SensorDefinition:
    """The sensor of one project whose file names device groups."""
    project = graph.project

    @owned_sensor(
        name=f"{project.project}_delivery",
        job=graph.deliver,
        minimum_interval_seconds=project.delivery.check_every,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Compares what each device group is assigned with the aliases: a promotion, an approval or a rollback by "
            "anybody is published within a tick. Signs anew what has less than half of its life left. Tells `devices` "
            "what answers on each, when their reports say something else."
        ),
        owners=list(project.owners),
        tags={"project": project.project},
    )
    def delivery(
        context: dg.SensorEvaluationContext,
        registry: dg.ResourceParam[ModelRegistry],
        edge: dg.ResourceParam[ArtifactStore],
        artifacts: dg.ResourceParam[ArtifactStore],
    ) -> dg.SensorResult:
        end_stale_runs(context.instance)
        found = look_at_device_groups(project, registry, edge, artifacts, context.instance)
        return dg.SensorResult(
            run_requests=[found] if isinstance(found, dg.RunRequest) else [],
            skip_reason=found if isinstance(found, dg.SkipReason) else None,
            asset_events=[
                *_devices_told(context, project, registry, artifacts, edge),
                *_rollouts_told(context, project, registry, artifacts),
            ],
        )

    return delivery


def _devices_told(
    context: dg.SensorEvaluationContext,
    project: Project,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
    edge: ArtifactStore,
) -> list[dg.AssetMaterialization]:
    """What is to be shown of the devices anew; why it cannot be told is of no concern to what they are given."""
    from visionops_assets.delivery.presentation import devices_shown
    from visionops_assets.delivery.tuf_files import CannotPublish, NotPublished
    from visionops_assets.promotion.presentation import groups_told_anew

    try:
        event = devices_shown(context.instance, project, artifacts, edge)
        told = groups_told_anew(context.instance, registry, project, artifacts) if event is not None else None
    except NotPublished:
        # The sensor says so itself where somebody waits for it.
        return []
    except (CannotPublish, RegistryError, OSError) as error:
        context.log.info(f"the devices cannot be shown: {error}")
        return []
    # The devices last: who is stopped before is followed by one who tells both.
    return [each for each in (told, event) if each is not None]


def _rollouts_told(
    context: dg.SensorEvaluationContext, project: Project, registry: ModelRegistry, artifacts: ArtifactStore
) -> list[dg.AssetMaterialization]:
    from visionops_assets.delivery.presentation import rollouts_shown

    try:
        return rollouts_shown(context.instance, project, registry, artifacts)
    except (VisionOpsError, OSError) as error:
        context.log.info(f"the rollouts cannot be shown: {error}")
        return []


@dataclass(frozen=True)
class _Asked:
    """One thing that device groups are to be given: the digest that its runs carry, and what it is."""

    digest: str
    what: str


def look_at_device_groups(
    project: Project,
    registry: ModelRegistry,
    edge: ArtifactStore,
    artifacts: ArtifactStore,
    instance: dg.DagsterInstance,
) -> dg.RunRequest | dg.SkipReason:
    """What a tick asks for. What it finds of rollouts is kept, where that is news."""
    from visionops_assets.delivery.rollout_looks import store_look
    from visionops_assets.delivery.tuf_files import CannotPublish, NotPublished

    try:
        wanted, waits, ahead = _wanted(project, registry, edge, artifacts)
        for _, found in ahead.looks:
            if found.is_news:
                store_look(project, artifacts, found)
    except NotPublished as error:
        told = _nothing_given(project, error)
        return skip_wrong(told) if _has_history(registry, project) else dg.SkipReason(told)
    except (CannotPublish, RegistryError, Invalid, ArtifactDamaged) as error:
        return skip_wrong(str(error))
    for each in wanted:
        asked = _asked_runs(project, instance, each)
        if isinstance(asked, dg.RunRequest):
            return asked
        waits.append(asked)
    return waiting_for(waits, "every device group is assigned what it should run")


def undelivered(
    project: Project,
    registry: ModelRegistry,
    edge: ArtifactStore,
    artifacts: ArtifactStore,
    instance: dg.DagsterInstance,
) -> list[str]:
    """What device groups should have been given, and what ages: that it failed or was cancelled, or cannot be begun;
    and which rollout waits for a person.

    An alias that was moved is told where every disagreement is. Raises `RegistryUnavailable`.
    """
    from visionops_assets.delivery.tuf_files import CannotPublish, NotPublished

    if not project.delivery.groups:
        return []
    try:
        wanted, waits, _ = _wanted(project, registry, edge, artifacts)
    except NotPublished as error:
        return [_nothing_given(project, error)] if _has_history(registry, project) else []
    except (CannotPublish, Invalid, ArtifactDamaged) as error:
        return [str(error)]
    return [each.reason for each in waits if each.for_a_person] + [
        sentence
        for each in wanted
        for sentence in told_with_command(
            project.project,
            each.what,
            # What was done once and is due again, as after a restored backup, is asked anew.
            list(takewhile(lambda run: not run.is_success, _runs_about(project, instance, each))),
            project.delivery.attempts,
            at_the_next_tick,
        )
    ]


def _nothing_given(project: Project, why: Exception) -> str:
    """Declared groups of a home in which nobody made keys, as of one from before they were declared."""
    groups = f"device groups of {project.project} ({', '.join(project.delivery.groups)})"
    return f"{groups} are given nothing: {why}, or take them out of its project file"


def _has_history(registry: ModelRegistry, project: Project) -> bool:
    """Whether there was ever something to give: a project that was renamed in its file alone has it elsewhere."""
    return bool(read_history(registry.models.get(project.project).tags).entries)


def _wanted(
    project: Project, registry: ModelRegistry, edge: ArtifactStore, artifacts: ArtifactStore
) -> "tuple[list[_Asked], list[Wait], Ahead]":
    """What is to be published, the most urgent first, and what cannot be now; and what is ahead of rollouts."""
    from visionops_assets.delivery.following import is_waiting, problems, standings, wanted_digest
    from visionops_assets.delivery.repository import Repository
    from visionops_assets.delivery.rolling_out import looked_at
    from visionops_assets.delivery.signers import Keys

    repository = Repository(edge, project.delivered_as, Keys({}))
    ahead = looked_at(project, registry, artifacts, repository.running(), clocks.now())
    found = standings(project, registry, repository)
    # Roles whose keys are elsewhere are named by `visionops fleet status`.
    published = repository.read()
    aged = [name for name in repository.aged(published) if name in ("snapshot", "timestamp")]
    waiting = repository.lacking_signatures()
    waits = [Wait(each, wrong=True) for each in problems(found)]
    due = [each for each in found if each.due]
    if waiting is not None:
        manifest, signed = waiting
        unsigned = [each for each in due if is_waiting(project, each, manifest)]
        due = [each for each in due if each not in unsigned]
        if unsigned:
            sign = f"`visionops rollout sign {project.project} --key ADDRESS`"
            waits.append(Wait(f"release {manifest['release']} waits: {signed}; {sign}"))
    waits += _rollouts_wait(project, ahead)
    wanted = []
    if due := [each for each in due if each.group not in {step.group for step in ahead.steps}]:
        release = int(waiting[0]["release"]) if waiting is not None else None
        groups = ", ".join(each.group for each in due)
        wanted.append(_Asked(wanted_digest(project, due, release), f"delivery to {groups}"))
    if aged:
        # Whatever keeps a group from its model, devices are to know that there is no news; tried again each day.
        digest = f"aged-{published.timestamp.signed.version}-{clocks.now():%Y%m%d}"
        wanted.append(_Asked(digest, f"signing {', '.join(aged)} anew"))
    if ahead.identity():
        digest = hashlib.sha256(json.dumps(ahead.identity()).encode()).hexdigest()[:16]
        wanted.insert(0, _Asked(digest, ahead.in_words()))
    return wanted, waits, ahead


def _rollouts_wait(project: Project, ahead: "Ahead") -> Iterator[Wait]:
    """What rollouts in progress lack; those that wait for a person are wrong."""
    from visionops_assets.delivery.rollout_page import RolloutNow
    from visionops_assets.rollout.rollouts import override_or_abort

    for rollout, look in ahead.looks:
        said = RolloutNow(project.project, rollout, (), look).sentence()
        if rollout.held or look.decision.page:
            ways = override_or_abort(project.project, rollout.group)
            yield Wait(f"{said}: {ways}", wrong=True, for_a_person=True)
        else:
            yield Wait(said)
    yield from (Wait(each) for each in ahead.waits)


def _asked_runs(project: Project, instance: dg.DagsterInstance, asked: _Asked) -> dg.RunRequest | Wait:
    """The run that publishes what is asked for, or why there is none."""
    runs = _runs_about(project, instance, asked)
    running = next((run for run in runs if not run.is_finished), None)
    if running is not None:
        return Wait(f"run {running.run_id} publishes it")
    attempts = [run for run in runs if is_attempt(run) and run.status != dg.DagsterRunStatus.SUCCESS]
    return stopped(project.project, asked.what, project.delivery.attempts, attempts) or dg.RunRequest(
        run_key=f"{project.project}/delivery/{asked.digest}/{len(runs) + 1}",
        tags={**_about(project, asked), run_tags.ATTEMPT: str(len(attempts) + 1)},
    )


def _runs_about(project: Project, instance: dg.DagsterInstance, asked: _Asked) -> list[dg.DagsterRun]:
    """Newest first."""
    return list(instance.get_runs(dg.RunsFilter(tags=_about(project, asked))))


def _about(project: Project, asked: _Asked) -> dict[str, str]:
    return {run_tags.PROJECT: project.project, run_tags.DELIVERY: asked.digest}


def untold_changes(
    context: dg.SensorEvaluationContext,
    project: Project,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
) -> tuple[list[dg.AssetMaterialization], str | None]:
    """The event that is missing, or none; and why it cannot be told now, which is left to the next look.

    Raises `RegistryUnavailable`.
    """
    from visionops_assets.promotion.presentation import production_materialisation, untold_change

    key = asset_key(project, IN_PRODUCTION)
    try:
        change = untold_change(context.instance, registry, project.project, key)
        if change is None or _is_changing(context.instance, project):
            return [], None
        context.log.info(
            f"in_production does not show this change yet, and is told of it now: {change.sentence()}"
        )
        event = production_materialisation(
            context.instance,
            project,
            key,
            change.group,
            lakefs=lakefs,
            registry=registry,
            artifacts=artifacts,
        )
        return [event], None
    except RegistryUnavailable:
        raise
    except (LakeFSError, RegistryError, LookupError, OSError, ValueError) as error:
        return [], f"in_production cannot be told of what runs: {error}"


def _is_changing(instance: dg.DagsterInstance, project: Project) -> bool:
    """Whether a run is at work that will tell of it itself."""
    wanted = dg.RunsFilter(tags={run_tags.PROJECT: project.project}, statuses=_UNFINISHED)
    jobs = {f"{project.project}_{name}" for name in _CHANGING}
    return any(run.job_name in jobs for run in instance.get_runs(wanted))
