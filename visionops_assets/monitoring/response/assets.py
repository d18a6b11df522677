"""`response`: what a production day led to."""

from datetime import UTC, date, datetime

import dagster as dg

from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from resources.settings import People
from resources.storage import ArtifactStore
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.shells.asset_options import daily_asset, keep_day
from visionops_assets.shells.job_execution import clear_failures


def response_asset(
    project: Project,
    drift_report: dg.AssetsDefinition,
    performance: dg.AssetsDefinition,
    labels_wanted: dg.AssetsDefinition,
    in_production: dg.AssetsDefinition,
) -> dg.AssetsDefinition:
    """The `response` asset of a project. It materialises `in_production` where it rolled back."""

    @daily_asset(
        project,
        "response",
        ["mlflow"],
        deps=[drift_report, performance, labels_wanted],
        description=(
            "What this day led to: labels asked for, an alert, a hold, a rollback, each recorded once with its "
            "evidence. Only the newest day acts; a past one that is judged again says what it would have led to."
        ),
    )
    def response(
        context: dg.AssetExecutionContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
    ) -> None:
        from visionops_assets.monitoring.production_day import typed_table
        from visionops_assets.monitoring.response.presentation import (
            RESPONSE_COLUMNS,
            response_metadata,
            response_table,
        )
        from visionops_assets.monitoring.response.respond import Responding
        from visionops_assets.promotion.presentation import production_materialisation, untold_change

        who = People.read().actor or f"VisionOps, run {context.run.run_id[:8]}"
        responding = Responding(project, lakefs, registry, artifacts, who, datetime.now(UTC))
        with clear_failures(context):
            for key in context.partition_keys:
                found = responding.respond(date.fromisoformat(key))
                shown = response_metadata(found, project, lakefs, registry)
                stored = typed_table(response_table(found), RESPONSE_COLUMNS)
                keep_day(context, artifacts, project, "response", key, stored, shown)
                untold = untold_change(context.instance, registry, project.project, in_production.key)
                if found.rollbacks and untold is not None:
                    context.log_event(
                        production_materialisation(
                            context.instance,
                            project,
                            in_production.key,
                            untold.group,
                            lakefs=lakefs,
                            registry=registry,
                            artifacts=artifacts,
                        )
                    )
        # The last step of a day: the log is told of once all that follows from it is done.
        context.instance.add_run_tags(context.run.run_id, {run_tags.OUTCOME: run_tags.LOGGED})

    return response
