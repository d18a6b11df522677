"""`inference_log`: what production saw and answered on a day."""

from datetime import UTC, datetime

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.lakefs import LakeFSResource
from resources.model_registry import ModelRegistry
from visionops_assets import run_tags
from visionops_assets.daily import check_results, daily_asset, daily_check_spec, keep_day
from visionops_assets.failures import RETRY, clear_failures
from visionops_assets.monitoring.inference_log import LOG_IS_COMPLETE
from visionops_assets.project import Project


def inference_log_asset(project: Project, in_production: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The `inference_log` asset of a project, with its check."""

    @daily_asset(
        project,
        "inference_log",
        ["lakefs", "parquet"],
        deps=[in_production],
        retry_policy=RETRY,
        check_specs=[
            daily_check_spec(
                project,
                "inference_log",
                LOG_IS_COMPLETE,
                "Nothing that was written for this day was left out, and no device of the day before is silent.",
            )
        ],
        description=(
            "One row a prediction of this day, of every model and device: validated, each once, with the labels that "
            f"came since. Read from `{project.repository}-production`."
        ),
    )
    def inference_log(
        context: dg.AssetExecutionContext,
        lakefs: LakeFSResource,
        registry: ModelRegistry,
        artifacts: ArtifactStore,
    ) -> dg.MaterializeResult:
        from visionops_assets.monitoring.presentation import log_check, log_metadata
        from visionops_assets.monitoring.production_day import known_models, read_production_day

        checks = {}
        with clear_failures(context):
            models = known_models(registry.models.versions(project.project))
            for day in context.partition_keys:
                found = read_production_day(
                    project,
                    day,
                    lakefs=lakefs,
                    artifacts=artifacts,
                    models=models,
                    today=datetime.now(UTC).date(),
                )
                table = found.table(project.task)
                keep_day(
                    context,
                    artifacts,
                    project,
                    "inference_log",
                    day,
                    table,
                    log_metadata(lakefs, project, found),
                )
                checks[day] = log_check(found)
            results = check_results(context, project, "inference_log", LOG_IS_COMPLETE, checks)
        context.instance.add_run_tags(context.run.run_id, {run_tags.OUTCOME: run_tags.LOGGED})
        return dg.MaterializeResult(check_results=results)

    return inference_log
