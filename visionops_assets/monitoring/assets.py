"""Production days: what was seen and answered, how it departs from the holdout, whether it hurts, what to label."""

from datetime import UTC, date, datetime

import dagster as dg

from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore, Scratch
from visionops_assets.common.run_tags import LOG_IS_COMPLETE
from visionops_assets.config.project import Project
from visionops_assets.shells.asset_options import check_results, daily_asset, daily_check_spec, keep_day
from visionops_assets.shells.job_execution import clear_failures

NO_DRIFT, PERFORMANCE_HOLDS = "no_drift", "performance_holds"


def inference_log_asset(project: Project, in_production: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The `inference_log` asset of a project, with its check."""

    @daily_asset(
        project,
        "inference_log",
        ["lakefs", "parquet"],
        deps=[in_production],
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
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
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
        return dg.MaterializeResult(check_results=results)

    return inference_log


def features_asset(project: Project, inference_log: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The `features` asset of a project."""

    @daily_asset(
        project,
        "features",
        ["parquet"],
        deps=[inference_log],
        description=(
            "One row an image and time: image statistics, embedding and what the model said, as numbers. The table "
            "that drift is looked for in, and that a feature store serves."
        ),
    )
    def features(context: dg.AssetExecutionContext, artifacts: dg.ResourceParam[ArtifactStore]) -> None:
        from visionops_assets.monitoring.presentation import features_metadata
        from visionops_assets.monitoring.production_day import features_of, needed_day, stored_features

        with clear_failures(context):
            for day in context.partition_keys:
                log = needed_day(artifacts, project.project, "inference_log", day)
                table = features_of(log, project.task)
                stored = stored_features(table, project.task)
                keep_day(context, artifacts, project, "features", day, stored, features_metadata(table))

    return features


def drift_report_asset(project: Project, features: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The `drift_report` asset of a project, with its check."""

    @daily_asset(
        project,
        "drift_report",
        ["evidently", "mlflow"],
        deps=[features],
        check_specs=[
            daily_check_spec(
                project,
                "drift_report",
                NO_DRIFT,
                "No model's day departs from its holdout: a warning on the first bad day, an error once "
                f"{project.drift.days.alarm} of {project.drift.days.of} days are bad.",
            )
        ],
        description=(
            "How far each model's day, on each device group, is from that model's own holdout: images, answers and "
            "embeddings, column by column. Evidently's page is drawn for days that alarm."
        ),
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
        scratch: dg.ResourceParam[Scratch],
    ) -> dg.MaterializeResult:
        from visionops_assets.monitoring.model_days import DRIFT_COLUMNS
        from visionops_assets.monitoring.presentation import drift_metadata, states_check
        from visionops_assets.monitoring.production_day import StoredDays, needed_day, typed_table
        from visionops_assets.monitoring.reference import References
        from visionops_assets.monitoring.watch import DayMetrics, keep_pages, watch_drift

        checks = {}
        with clear_failures(context):
            references = References(
                project, lakefs=lakefs, registry=registry, artifacts=artifacts, scratch=scratch
            )
            past = StoredDays(artifacts, project.project, "drift_report")
            metrics = DayMetrics(references, registry)
            for key in context.partition_keys:
                day = date.fromisoformat(key)
                table = needed_day(artifacts, project.project, "features", key)
                found = watch_drift(project, day, table, references, past)
                links = keep_pages(found.pages, day, references, registry)
                metrics.add({where: {"drift_share": share} for where, share in found.shares.items()}, day)
                shown, stored = drift_metadata(found, links), typed_table(found.table, DRIFT_COLUMNS)
                keep_day(context, artifacts, project, "drift_report", key, stored, shown)
                checks[key] = states_check(found.states)
            metrics.log()
            results = check_results(context, project, "drift_report", NO_DRIFT, checks)
        return dg.MaterializeResult(check_results=results)

    return drift_report


def performance_asset(
    project: Project, inference_log: dg.AssetsDefinition, drift_report: dg.AssetsDefinition
) -> dg.AssetsDefinition:
    """The `performance` asset of a project, with its check."""

    @daily_asset(
        project,
        "performance",
        ["mlflow"],
        deps=[inference_log, drift_report],
        check_specs=[
            daily_check_spec(
                project,
                "performance",
                PERFORMANCE_HOLDS,
                "No model is surely below the floor: its whole interval would have to be.",
            )
        ],
        description=(
            "How well each model did on this day: counted where labels exist, estimated from calibrated confidences "
            "elsewhere, both with intervals. A detector has no number without labels."
        ),
    )
    def performance(
        context: dg.AssetExecutionContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
        scratch: dg.ResourceParam[Scratch],
    ) -> dg.MaterializeResult:
        from visionops_assets.monitoring.model_days import (
            PERFORMANCE_COLUMNS,
            performance_metrics,
            performances_by_day,
        )
        from visionops_assets.monitoring.presentation import performance_metadata, states_check
        from visionops_assets.monitoring.production_day import StoredDays, needed_day, typed_table
        from visionops_assets.monitoring.reference import References
        from visionops_assets.monitoring.watch import DayMetrics, Estimators, watch_performance

        checks = {}
        with clear_failures(context):
            references = References(
                project, lakefs=lakefs, registry=registry, artifacts=artifacts, scratch=scratch
            )
            past = StoredDays(artifacts, project.project, "performance")
            logs = StoredDays(artifacts, project.project, "inference_log")
            estimators = Estimators(project, references, logs)
            metrics = DayMetrics(references, registry)
            for key in context.partition_keys:
                day = date.fromisoformat(key)
                log = needed_day(artifacts, project.project, "inference_log", key)
                found = watch_performance(project, day, log, estimators, past)
                metrics.add(performance_metrics(found.table), day)
                shown = performance_metadata(found, performances_by_day(past.until(day)))
                stored = typed_table(found.table, PERFORMANCE_COLUMNS)
                keep_day(context, artifacts, project, "performance", key, stored, shown)
                checks[key] = states_check(found.states)
            metrics.log()
            results = check_results(context, project, "performance", PERFORMANCE_HOLDS, checks)
        return dg.MaterializeResult(check_results=results)

    return performance


def labels_wanted_asset(
    project: Project, inference_log: dg.AssetsDefinition, performance: dg.AssetsDefinition
) -> dg.AssetsDefinition:
    """The `labels_wanted` asset of a project."""

    @daily_asset(
        project,
        "labels_wanted",
        ["parquet"],
        deps=[inference_log, performance],
        description=(
            "The captured images of this day most worth a label: those the model is unsure of, those unlike its "
            f"holdout, some of every class. `visionops labels export {project.project}` hands them out."
        ),
    )
    def labels_wanted(
        context: dg.AssetExecutionContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
        scratch: dg.ResourceParam[Scratch],
    ) -> None:
        from visionops_assets.monitoring.labels_wanted import WANTED_COLUMNS
        from visionops_assets.monitoring.presentation import wanted_metadata
        from visionops_assets.monitoring.production_day import needed_day, typed_table
        from visionops_assets.monitoring.reference import References
        from visionops_assets.monitoring.watch import want_labels

        with clear_failures(context):
            references = References(
                project, lakefs=lakefs, registry=registry, artifacts=artifacts, scratch=scratch
            )
            for key in context.partition_keys:
                log = needed_day(artifacts, project.project, "inference_log", key)
                wanted = want_labels(project, log, references)
                stored = typed_table(wanted, WANTED_COLUMNS)
                keep_day(context, artifacts, project, "labels_wanted", key, stored, wanted_metadata(wanted))

    return labels_wanted
