"""Jobs that change what runs: carry out a decision that waited, or undo a promotion."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.artifact_store import ArtifactStore
from resources.lakefs.client import LakeFSResource
from resources.model_records import EVERYWHERE, version_on
from resources.models.registry import ModelRegistry
from visionops_assets.common import run_tags
from visionops_assets.failures import clear_failures
from visionops_assets.job_options import job_options
from visionops_assets.project import Project

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


class RollbackConfig(dg.Config):
    """What to go back to, and who says why."""

    why: str = Field(description="Why, in words; kept for ever and shown wherever this rollback is.")
    actor: str = Field(description="Who decides it.")
    to: int | None = Field(
        default=None,
        description="The registered version to go back to; by default the one that the present champion replaced.",
    )
    leaving: int | None = Field(
        default=None,
        description="The version to get away from; if another is in production by then, nothing happens.",
    )
    group: str = Field(default=EVERYWHERE, description="Device group.")


def promote_job(project: Project, champion: dg.AssetsDefinition) -> "UnresolvedAssetJobDefinition":
    """The job that `approve`, `promote --override` and `release` run: nothing is trained or judged again."""
    return dg.define_asset_job(
        f"{project.project}_promote",
        selection=dg.AssetSelection.assets(champion).without_checks(),
        description="Carry out a decision that waited for a person. The champion asset still checks everything.",
        **job_options(project),
    )


def rollback_job(project: Project, in_production: dg.AssetsDefinition) -> dg.JobDefinition:
    """The job that undoes a promotion at once. It holds no asset check, so none can block it."""

    @dg.op(
        name=f"{project.project}_roll_back",
        description="Sets the champion's alias to the earlier version and puts promotion on hold.",
    )
    def roll_back(context: dg.OpExecutionContext, config: RollbackConfig, registry: ModelRegistry) -> str:
        from visionops_assets.promotion.presentation import change_metadata
        from visionops_assets.promotion.rollback import rollback

        with clear_failures():
            change = rollback(
                registry,
                project=project.project,
                who=config.actor,
                why=config.why,
                when=datetime.now(UTC),
                to=config.to,
                leaving=_leaving(context, config, registry, project.project),
                group=config.group,
                on_step=context.log.info,
            )
        context.add_output_metadata(change_metadata(registry, project.project, change))
        return config.group

    @dg.op(
        name=f"{project.project}_report_production",
        description="Materialises `in_production`: what runs now, and why.",
    )
    def report(
        context: dg.OpExecutionContext,
        group: str,
        lakefs: LakeFSResource,
        registry: ModelRegistry,
        artifacts: ArtifactStore,
    ) -> None:
        from visionops_assets.promotion.presentation import production_materialisation

        with clear_failures(context):
            told = production_materialisation(
                context.instance,
                project,
                in_production.key,
                group,
                lakefs=lakefs,
                registry=registry,
                artifacts=artifacts,
            )
        context.log_event(told)

    @dg.job(
        name=f"{project.project}_rollback",
        description=(
            "Take a bad model out of production at once: an earlier version becomes champion, promotion waits for "
            "`visionops release`."
        ),
        **job_options(project),
    )
    def job() -> None:
        report(roll_back())

    return job


def _leaving(
    context: dg.OpExecutionContext, config: RollbackConfig, registry: ModelRegistry, project: str
) -> int | None:
    """The version to get away from, kept as a tag: the run executed again must not go back twice."""
    kept = context.run.tags.get(run_tags.LEAVING)
    present = version_on(registry.models.get(project), config.group)
    leaving = config.leaving or (int(kept) if kept else present)
    if leaving is not None:
        context.instance.add_run_tags(context.run_id, {run_tags.LEAVING: str(leaving)})
    return leaving
