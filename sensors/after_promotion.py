"""What follows a change of what runs: device groups are given what the aliases say, and what ages is signed anew.

A change that `in_production` does not show is told: who made it was stopped, or Dagster was away.
"""

import dagster as dg

from resources import clocks
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSError
from resources.models.records import RegistryError, RegistryUnavailable
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from sensors.readiness import Wait, owned_sensor, skip_wrong, stopped, waiting_for
from sensors.unfinished_runs import end_stale_runs
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.graph import ProjectGraph
from visionops_assets.shells.asset_options import IN_PRODUCTION, asset_key
from visionops_assets.shells.run_outcomes import is_attempt

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
            "anybody is published within a tick. Signs anew what has less than half of its life left."
        ),
        owners=list(project.owners),
        tags={"project": project.project},
    )
    def delivery(
        context: dg.SensorEvaluationContext,
        registry: dg.ResourceParam[ModelRegistry],
        edge: dg.ResourceParam[ArtifactStore],
    ) -> dg.RunRequest | dg.SkipReason:
        end_stale_runs(context.instance)
        return look_at_device_groups(project, registry, edge, context.instance)

    return delivery


def look_at_device_groups(
    project: Project, registry: ModelRegistry, edge: ArtifactStore, instance: dg.DagsterInstance
) -> dg.RunRequest | dg.SkipReason:
    """What a tick asks for."""
    from visionops_assets.delivery.following import is_waiting, standings, wanted_digest
    from visionops_assets.delivery.repository import Repository
    from visionops_assets.delivery.signers import Keys
    from visionops_assets.delivery.tuf_files import CannotPublish, NotPublished

    repository = Repository(edge, project.project, Keys({}))
    try:
        found = standings(project, registry, repository)
        # Roles whose keys are elsewhere are named by `visionops fleet status`.
        published = repository.read()
        aged = [name for name in repository.aged(published) if name in ("snapshot", "timestamp")]
        waiting = repository.lacking_signatures()
    except (CannotPublish, NotPublished, RegistryError) as error:
        return skip_wrong(str(error))
    waits = [Wait(each.sentence(), wrong=True) for each in found if each.problem]
    due = [each for each in found if each.due]
    if waiting is not None:
        manifest, signed = waiting
        unsigned = [each for each in due if is_waiting(project, each, manifest)]
        due = [each for each in due if each not in unsigned]
        if unsigned:
            sign = f"`visionops rollout sign {project.project} --key ADDRESS`"
            waits.append(Wait(f"release {manifest['release']} waits: {signed}; {sign}"))
    if due:
        release = int(waiting[0]["release"]) if waiting is not None else None
        digest = wanted_digest(project, due, release)
        asked = _asked_runs(project, instance, digest, ", ".join(each.group for each in due))
        if isinstance(asked, dg.RunRequest):
            return asked
        waits.append(asked)
    if aged:
        # Whatever keeps a group from its model, devices are to know that there is no news; tried again each day.
        digest = f"aged-{published.timestamp.signed.version}-{clocks.now():%Y%m%d}"
        asked = _asked_runs(project, instance, digest, f"signing {', '.join(aged)} anew")
        if isinstance(asked, dg.RunRequest):
            return asked
        waits.append(asked)
    return waiting_for(waits, "every device group is assigned what it should run")


def _asked_runs(
    project: Project, instance: dg.DagsterInstance, digest: str, what: str
) -> dg.RunRequest | Wait:
    """The run that publishes what is due, or why there is none."""
    tags = {run_tags.PROJECT: project.project, run_tags.DELIVERY: digest}
    runs = [record.dagster_run for record in instance.get_run_records(dg.RunsFilter(tags=tags))]
    running = next((run for run in runs if not run.is_finished), None)
    if running is not None:
        return Wait(f"run {running.run_id} publishes it")
    attempts = [run for run in runs if is_attempt(run) and run.status != dg.DagsterRunStatus.SUCCESS]
    return stopped(project.project, what, project.delivery.attempts, attempts) or dg.RunRequest(
        run_key=f"{project.project}/delivery/{digest}/{len(runs) + 1}",
        tags={**tags, run_tags.ATTEMPT: str(len(attempts) + 1)},
    )


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
