"""`champion` and `in_production`: what a verdict changes, and what runs now; and the jobs that change it besides.

`promote` carries out a verdict that waited, `rollback` undoes a promotion.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.error_family import NotFound
from resources.lakefs.client import LakeFSResource
from resources.models.records import EVERYWHERE, version_on
from resources.models.registry import ModelRegistry
from resources.settings import People
from resources.storage import ArtifactStore
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.evaluation.verdict_store import read_address
from visionops_assets.shells.asset_options import IN_PRODUCTION, asset_key, asset_options, versioned
from visionops_assets.shells.job_execution import clear_failures, job_options

if TYPE_CHECKING:
    from visionops_assets.shells.unstable_dagster import UnresolvedAssetJobDefinition


class WhichDecision(dg.Config):
    """Which decision to carry out."""

    verdict: str = Field(
        default="",
        description="Identity of a decision on this dataset version, or a unique beginning; by default its latest.",
    )


def champion_asset(project: Project, evaluation: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The `champion` asset of a project. It fails closed: no check has to be trusted."""

    @dg.asset(
        **versioned(project, "champion", ["mlflow"]),
        deps=[evaluation],
        # Where nothing is to be promoted nothing failed: Dagster shows what a failed run had planned in red.
        output_required=False,
        description=(
            "The registered version that this dataset version's challenger became. It reads the stored decision "
            "itself: nothing but a PASS against the present champion, or a recorded override, changes the alias. Last "
            "it materialises `in_production`. A decision that promotes nothing leaves it as it is."
        ),
    )
    def champion(
        context: dg.AssetExecutionContext,
        config: WhichDecision,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
    ) -> Iterator[dg.MaterializeResult]:
        from visionops_assets.common.errors import ApprovalNeeded, OnHold
        from visionops_assets.evaluation.verdict_store import listed_decision
        from visionops_assets.promotion.presentation import champion_metadata, production_materialisation
        from visionops_assets.promotion.promote import promote

        may_promote = run_tags.kind_of_run(context.run.tags) == "decision"
        with clear_failures(context):
            # Said by the check of this run, and no more than a reason to ask for nothing: what promotes asks itself.
            if may_promote and _outcome(context) in (run_tags.REFUSED, run_tags.INSUFFICIENT):
                context.log.info("The challenger did not pass: what is in production stays.")
                return
            identity, run_id = _decision(
                registry, artifacts, project.project, context.partition_key, config.verdict
            )
            try:
                change = promote(
                    registry,
                    project=project.project,
                    verdict=identity,
                    run_id=run_id,
                    who=People.read().actor or f"VisionOps, run {context.run.run_id[:8]}",
                    when=datetime.now(UTC),
                    approval=project.gate.approval,
                    on_step=context.log.info,
                )
            except (ApprovalNeeded, OnHold) as error:
                context.instance.add_run_tags(
                    context.run.run_id, {run_tags.OUTCOME: run_tags.AWAITING_APPROVAL}
                )
                if not may_promote:
                    raise
                context.log.warning(str(error))
                return
            decision = listed_decision(registry.models.get(project.project).tags, project.project, identity)
            metadata = champion_metadata(registry, project, change, decision)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(f"{project.project}/{change.version}"), metadata=metadata
        )
        with clear_failures(context):
            told = production_materialisation(
                context.instance,
                project,
                asset_key(project, IN_PRODUCTION),
                EVERYWHERE,
                lakefs=lakefs,
                registry=registry,
                artifacts=artifacts,
            )
        context.log_event(told)
        # Only now: a run that is killed before is asked for again, finds the alias set, and tells.
        context.instance.add_run_tags(context.run.run_id, {run_tags.OUTCOME: run_tags.PROMOTED})

    return champion


def in_production_asset(project: Project, champion: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The unpartitioned `in_production` asset of a project."""

    @dg.asset(
        **asset_options(project, IN_PRODUCTION, ["mlflow"]),
        deps=[champion],
        description=(
            "What runs now, in words: why this model, trained on what, what changed against its predecessor. Whatever "
            "changes it materialises it; a refused week does not touch it."
        ),
    )
    def in_production(
        context: dg.AssetExecutionContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
    ) -> dg.MaterializeResult:
        from visionops_assets.promotion.presentation import NOTHING, nothing_metadata, production_metadata
        from visionops_assets.promotion.production_report import report_on_production

        with clear_failures(context):
            model = registry.models.get(project.project)
            if version_on(model) is None:
                return dg.MaterializeResult(
                    data_version=dg.DataVersion(NOTHING),
                    metadata=nothing_metadata(registry, project, model, artifacts),
                )
            report = report_on_production(project, lakefs=lakefs, registry=registry, artifacts=artifacts)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(report.weights_sha256),
            metadata=production_metadata(registry, project, report, artifacts),
        )

    return in_production


def _outcome(context: dg.AssetExecutionContext) -> str | None:
    run = context.instance.get_run_by_id(context.run.run_id)
    return run.tags.get(run_tags.OUTCOME) if run is not None else None


def _decision(
    registry: ModelRegistry, artifacts: ArtifactStore, project: str, partition: str, named: str
) -> tuple[str, str]:
    """Identity and run of the decision on a dataset version: the one named, else the latest."""
    from visionops_assets.evaluation.verdict_store import listed_decision

    if named:
        decision = listed_decision(registry.models.get(project).tags, project, named)
        if decision.partition != partition:
            raise NotFound(f"verdict {named} was made on {decision.partition}, not on {partition}")
        return decision.identity, decision.run_id
    address = read_address(artifacts, "decision", project, partition)
    if address is None:
        raise NotFound(
            f"no decision is stored for {partition}: a what-if cannot promote. The sensor {project}_commits "
            "decides on the newest dataset version"
        )
    return address.identity, address.run_id


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
    only: bool = Field(
        default=False,
        description="Leave device groups as they are that run the same by a champion of their own.",
    )


def promote_job(project: Project, champion: dg.AssetsDefinition) -> "UnresolvedAssetJobDefinition":
    """The job that `approve`, `override` and `release` run: nothing is trained or judged again."""
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
    def roll_back(
        context: dg.OpExecutionContext, config: RollbackConfig, registry: dg.ResourceParam[ModelRegistry]
    ) -> str:
        from visionops_assets.promotion.presentation import change_metadata
        from visionops_assets.promotion.production_change import Attribution
        from visionops_assets.promotion.rollback import rollback, take_along

        with clear_failures():
            by = Attribution(config.actor, datetime.now(UTC), config.why)
            change = rollback(
                registry,
                project=project.project,
                by=by,
                to=config.to,
                leaving=_version_to_leave(context, config, registry, project.project),
                group=config.group,
                on_step=context.log.info,
            )
            take_along(
                registry,
                change,
                project=project.project,
                follow=[] if config.only else project.delivery.following,
                by=by,
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
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
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


def _version_to_leave(
    context: dg.OpExecutionContext, config: RollbackConfig, registry: ModelRegistry, project: str
) -> int | None:
    """The version to get away from, kept as a tag: the run executed again must not go back twice."""
    kept = context.run.tags.get(run_tags.LEAVING)
    present = version_on(registry.models.get(project), config.group)
    leaving = config.leaving or (int(kept) if kept else present)
    if leaving is not None:
        context.instance.add_run_tags(context.run_id, {run_tags.LEAVING: str(leaving)})
    return leaving
