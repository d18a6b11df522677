"""A project's file becomes its assets, checks and jobs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from visionops_assets.config.project import Neighbours, Project
from visionops_assets.dataset.assets import images_asset, incoming_batch_asset, manifest_asset
from visionops_assets.dataset.checks import intact_check, manifest_checks
from visionops_assets.delivery.assets import deliver_job, devices_spec, edge_bundle_asset, rollout_spec
from visionops_assets.evaluation.assets import evaluation_asset, evaluation_checks
from visionops_assets.monitoring.assets import (
    drift_report_asset,
    features_asset,
    inference_log_asset,
    labels_wanted_asset,
    performance_asset,
)
from visionops_assets.monitoring.response.assets import response_asset
from visionops_assets.promotion.assets import champion_asset, in_production_asset, promote_job, rollback_job
from visionops_assets.reproduction.jobs import reproduce_job
from visionops_assets.shells.job_execution import job_options
from visionops_assets.training.assets import challenger_asset, challenger_checks

if TYPE_CHECKING:
    from resources.models.registry import ModelRegistry
    from visionops_assets.dataset.suspect_labels import Opinion
    from visionops_assets.shells.unstable_dagster import UnresolvedAssetJobDefinition


@dataclass(frozen=True)
class ProjectGraph:
    """What a sensor needs to know of a project's graph, and the definitions of all of it, without resources.

    `neighbours` are the names of the other projects that files declare for its repository; `deliver` is there where
    the project names device groups.
    """

    project: Project
    neighbours: frozenset[str]
    images: dg.AssetSpec
    take: "UnresolvedAssetJobDefinition"
    verify: "UnresolvedAssetJobDefinition"
    decide: "UnresolvedAssetJobDefinition"
    days: "UnresolvedAssetJobDefinition"
    deliver: "UnresolvedAssetJobDefinition | None"
    definitions: dg.Definitions


def project_graph(project: Project, neighbours: Neighbours | None = None) -> ProjectGraph:
    """The assets, checks and jobs of one project; `neighbours` may share its repository."""
    incoming = incoming_batch_asset(project, _champion_opinion, neighbours or {})
    images = images_asset(project, incoming)
    manifest = manifest_asset(project, images)
    intact = dg.AssetSelection.checks(intact_check(manifest))
    challenger = challenger_asset(project, manifest)
    evaluation = evaluation_asset(project, manifest, challenger)
    champion = champion_asset(project, evaluation)
    in_production = in_production_asset(project, champion)
    inference_log = inference_log_asset(project, in_production)
    features = features_asset(project, inference_log)
    drift_report = drift_report_asset(project, features)
    performance = performance_asset(project, inference_log, drift_report)
    labels_wanted = labels_wanted_asset(project, inference_log, performance)
    response = response_asset(project, drift_report, performance, labels_wanted, in_production)
    take = _job(
        project,
        "take",
        dg.AssetSelection.assets(incoming),
        "Take a batch from the drop: import, check, and publish it or refuse it.",
    )
    verify = _job(
        project,
        "verify_sample",
        intact,
        "Read a sample of a dataset version's images again: are they there, unaltered?",
    )
    decide = _job(
        project,
        "decide",
        # Without in_production, which would be red after every refusal: Dagster counts what a failed run had planned.
        dg.AssetSelection.assets(manifest, challenger, evaluation, champion) - intact,
        "From a dataset version to a promotion, or a clear reason why not.",
    )
    what_if = _job(
        project,
        "what_if",
        dg.AssetSelection.assets(manifest, challenger, evaluation) - intact,
        "What would this recipe have made of these dataset versions? For backfills; promotes nothing.",
    )
    days = _job(
        project,
        "days",
        dg.AssetSelection.assets(inference_log, features, drift_report, performance, labels_wanted, response),
        "What production saw and answered on a day, whether it drifts, how well it does, what to label and to do.",
    )
    edge_bundle = edge_bundle_asset(project, in_production) if project.delivery.groups else None
    deliver = deliver_job(project, edge_bundle) if edge_bundle is not None else None
    shown = (
        [spec(project, edge_bundle) for spec in (devices_spec, rollout_spec)]
        if edge_bundle is not None
        else []
    )
    return ProjectGraph(
        project,
        frozenset(neighbours or {}),
        images,
        take,
        verify,
        decide,
        days,
        deliver,
        dg.Definitions(
            assets=[
                incoming,
                images,
                manifest,
                challenger,
                evaluation,
                champion,
                in_production,
                inference_log,
                features,
                drift_report,
                performance,
                labels_wanted,
                response,
                *([edge_bundle] if edge_bundle is not None else []),
                *shown,
            ],
            asset_checks=[
                manifest_checks(project, manifest),
                *challenger_checks(project, challenger),
                *evaluation_checks(project, evaluation),
            ],
            jobs=[
                take,
                verify,
                decide,
                what_if,
                days,
                *([deliver] if deliver is not None else []),
                promote_job(project, champion),
                rollback_job(project, in_production),
                reproduce_job(project, in_production),
            ],
        ),
    )


def _job(
    project: Project, name: str, selection: dg.AssetSelection, description: str
) -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        f"{project.project}_{name}",
        selection=selection,
        description=description,
        **job_options(project),
    )


def _champion_opinion(registry: "ModelRegistry", project: Project) -> "Callable[[], Opinion | None]":
    from visionops_assets.evaluation.scoring import champion_opinion

    return champion_opinion(registry, project)
