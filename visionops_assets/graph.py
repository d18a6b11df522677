"""A project's file becomes its assets, checks and jobs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from visionops_assets import run_tags
from visionops_assets.dataset.assets import images_asset, manifest_asset
from visionops_assets.dataset.checks import manifest_checks
from visionops_assets.evaluation.assets import evaluation_asset
from visionops_assets.evaluation.checks import evaluation_checks
from visionops_assets.project import Project
from visionops_assets.promotion.assets import champion_asset, in_production_asset
from visionops_assets.promotion.jobs import promote_job, rollback_job
from visionops_assets.training.assets import challenger_asset
from visionops_assets.training.checks import challenger_checks

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


@dataclass(frozen=True)
class ProjectGraph:
    """What a sensor needs to know of a project's graph, and the definitions of all of it, without resources."""

    project: Project
    images: dg.AssetSpec
    decide: "UnresolvedAssetJobDefinition"
    definitions: dg.Definitions


def project_graph(project: Project) -> ProjectGraph:
    """The assets, checks and jobs of one project."""
    images = images_asset(project)
    manifest = manifest_asset(project, images)
    challenger = challenger_asset(project, manifest)
    evaluation = evaluation_asset(project, manifest, challenger)
    champion = champion_asset(project, evaluation)
    in_production = in_production_asset(project, champion)
    decide = dg.define_asset_job(
        f"{project.project}_decide",
        selection=dg.AssetSelection.assets(manifest, challenger, evaluation, champion, in_production),
        description="From a dataset version to a promotion, or a clear reason why not.",
        executor_def=dg.in_process_executor,
        tags={run_tags.HOST: run_tags.host()},
    )
    what_if = dg.define_asset_job(
        f"{project.project}_what_if",
        selection=dg.AssetSelection.assets(manifest, challenger, evaluation),
        description="What would this recipe have made of these dataset versions? For backfills; promotes nothing.",
        executor_def=dg.in_process_executor,
        tags={run_tags.HOST: run_tags.host()},
    )
    return ProjectGraph(
        project,
        images,
        decide,
        dg.Definitions(
            assets=[images, manifest, challenger, evaluation, champion, in_production],
            asset_checks=[
                *manifest_checks(project, manifest),
                *challenger_checks(project, challenger),
                *evaluation_checks(project, evaluation),
            ],
            jobs=[
                decide,
                what_if,
                promote_job(project, champion, in_production),
                rollback_job(project, in_production),
            ],
        ),
    )
