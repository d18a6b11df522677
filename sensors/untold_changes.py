"""A change of what runs that `in_production` does not show is told: who made it was stopped, or Dagster was away."""

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.lakefs.client import LakeFSResource
from resources.lakefs_errors import LakeFSError
from resources.model_errors import RegistryError, RegistryUnavailable
from resources.models.registry import ModelRegistry
from visionops_assets.asset_options import IN_PRODUCTION, asset_key
from visionops_assets.common import run_tags
from visionops_assets.project import Project

_CHANGING = ("decide", "promote", "rollback")
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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
