"""`champion` and `in_production`: what a verdict changes, and what runs now."""

import os
from datetime import UTC, datetime

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.lakefs import LakeFSResource
from resources.model_registry import ModelRegistry
from visionops_assets import run_tags
from visionops_assets.asset_options import asset_options, versioned
from visionops_assets.evaluation.address import read_address
from visionops_assets.failures import RETRY, clear_failures
from visionops_assets.project import Project


def champion_asset(project: Project, evaluation: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The `champion` asset of a project. It fails closed: no check has to be trusted."""

    @dg.asset(
        **versioned(project, "champion", ["mlflow"]),
        deps=[evaluation],
        retry_policy=RETRY,
        description=(
            "The registered version that this dataset version's challenger became. It reads the stored decision "
            "itself: nothing but a PASS against the present champion, or a recorded override, changes the alias."
        ),
    )
    def champion(
        context: dg.AssetExecutionContext, registry: ModelRegistry, artifacts: ArtifactStore
    ) -> dg.MaterializeResult:
        from visionops_assets.evaluation.verdicts import listed_decision
        from visionops_assets.promotion.promote import promote
        from visionops_assets.refusals import ApprovalNeeded, OnHold

        with clear_failures():
            address = read_address(artifacts, "decision", project.project, context.partition_key)
            if address is None:
                raise LookupError(
                    f"no decision is stored for {context.partition_key}: a what-if cannot promote. The sensor "
                    f"{project.project}_commits decides on the newest dataset version"
                )
            try:
                change = promote(
                    registry,
                    project=project.project,
                    verdict=address.identity,
                    run_id=address.run_id,
                    who=os.environ.get("VISIONOPS_ACTOR") or f"VisionOps, run {context.run.run_id[:8]}",
                    when=datetime.now(UTC),
                    approval=project.gate.approval,
                    on_step=context.log.info,
                )
            except (ApprovalNeeded, OnHold):
                context.instance.add_run_tags(
                    context.run.run_id, {run_tags.OUTCOME: run_tags.AWAITING_APPROVAL}
                )
                raise
            model = registry.models.get(project.project)
            decision = listed_decision(model.tags, project.project, address.identity)
            run = registry.runs.get(address.run_id)
        context.instance.add_run_tags(context.run.run_id, {run_tags.OUTCOME: run_tags.PROMOTED})
        entry = change.entry
        replaced = entry.from_version if entry is not None else None
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{project.project}/{change.version}"),
            metadata={
                "version": change.version or 0,
                "replaced": f"version {replaced}" if replaced is not None else "nothing: the first champion",
                "why": dg.MetadataValue.md(decision.summary),
                "verdict": decision.identity,
                "changed": change.changed,
                "by": entry.who if entry is not None else "unknown",
                "registered_version": dg.MetadataValue.url(
                    registry.version_url(project.project, change.version or 0)
                ),
                "mlflow_run": dg.MetadataValue.url(registry.run_url(run)),
                **({"note": change.note} if change.note else {}),
            },
        )

    return champion


def in_production_asset(project: Project, champion: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The unpartitioned `in_production` asset of a project."""

    @dg.asset(
        **asset_options(project, "in_production", ["mlflow"]),
        deps=[champion],
        retry_policy=RETRY,
        description="What runs now, in words: why this model, trained on what, what changed against its predecessor.",
    )
    def in_production(
        context: dg.AssetExecutionContext,
        lakefs: LakeFSResource,
        registry: ModelRegistry,
        artifacts: ArtifactStore,
    ) -> dg.MaterializeResult:
        from visionops_assets.promotion.production_report import report_on_production

        with clear_failures():
            report = report_on_production(project, lakefs=lakefs, registry=registry, artifacts=artifacts)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(report.weights_sha256),
            metadata={
                "why": dg.MetadataValue.md(report.markdown),
                "version": report.version,
                "report": dg.MetadataValue.url(report.url),
                "commit": dg.MetadataValue.url(report.commit_url),
                "registered_version": dg.MetadataValue.url(
                    registry.version_url(project.project, report.version)
                ),
                "weights_sha256": report.weights_sha256,
            },
        )

    return in_production
