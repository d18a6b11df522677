"""`incoming_batch`, `images` and `manifest`: from the drop to what a lakeFS commit holds."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

from resources.drop import Drop
from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from visionops_assets.common import run_tags
from visionops_assets.config.project import Neighbours, Project
from visionops_assets.dataset.checks import incoming_check_specs, incoming_results
from visionops_assets.shells import outputs
from visionops_assets.shells.asset_options import INCOMING_BATCH, asset_key, asset_options, batches, versioned
from visionops_assets.shells.job_execution import clear_failures

if TYPE_CHECKING:
    from visionops_assets.dataset.suspect_labels import Opinion

SAMPLES_SHOWN = 12
# Later stages know models: what gives the champion's opinion of labels is handed in.
ChampionOpinion = Callable[[ModelRegistry, Project], "Callable[[], Opinion | None]"]


def incoming_batch_asset(
    project: Project, champion_opinion: ChampionOpinion, neighbours: Neighbours
) -> dg.AssetsDefinition:
    """The `incoming_batch` asset of a project, with its checks."""

    @dg.asset(
        **asset_options(project, INCOMING_BATCH, ["lakefs"]),
        partitions_def=batches(project.project),
        check_specs=incoming_check_specs(project, asset_key(project, INCOMING_BATCH)),
        description=(
            "A batch of labelled images from the drop: imported on a lakeFS branch of its own, checked, and merged to "
            "`main` only if no check finds an error. A refused batch's branch stays, with its findings."
        ),
    )
    def incoming_batch(
        context: dg.AssetExecutionContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
        drop: dg.ResourceParam[Drop],
    ) -> dg.MaterializeResult:
        from visionops_assets.dataset.batch_publishing import Publisher, take_batch
        from visionops_assets.dataset.presentation import finding_pictures

        with clear_failures(context):
            publisher = Publisher(
                project,
                lakefs,
                artifacts,
                opinion=champion_opinion(registry, project),
                neighbours=neighbours,
            )
            taken = take_batch(
                publisher,
                context.partition_key,
                drop=drop,
                run_id=context.run.run_id,
                say=context.log.info,
            )
        context.instance.add_run_tags(context.run.run_id, {run_tags.OUTCOME: taken.outcome})
        page = f"commits/{taken.commit}" if taken.outcome == "published" else "objects"
        where = {} if taken.outcome == "published" else {"ref": taken.reference}
        return dg.MaterializeResult(
            metadata={
                "outcome": taken.outcome,
                "images": taken.images,
                "findings": len(taken.findings),
                "warnings": taken.warnings(f"visionops findings {project.project} {context.partition_key}"),
                "lakefs": dg.MetadataValue.url(lakefs.link(project.repository, page, **where)),
            },
            check_results=incoming_results(
                taken.findings,
                lambda found: finding_pictures(lakefs, project, taken.reference, found),
                f"visionops findings {project.project} {context.partition_key} --to FILE.csv --html FOLDER",
            ),
        )

    return incoming_batch


def images_asset(project: Project, incoming_batch: dg.AssetsDefinition) -> dg.AssetSpec:
    """The images themselves: external, observed by the commit sensor."""
    return dg.AssetSpec(
        **versioned(project, "images", ["lakefs"]),
        deps=[dg.AssetDep(incoming_batch, partition_mapping=dg.AllPartitionMapping())],
        description=(
            f"The images on `{project.repository}/main`. One partition per commit that changed samples; the data "
            "version is the commit."
        ),
    )


def manifest_asset(project: Project, images: dg.AssetSpec) -> dg.AssetsDefinition:
    """The `manifest` asset of a project."""

    @dg.asset(
        **versioned(project, "manifest", ["lakefs", "parquet"]),
        deps=[images],
        io_manager_key="tables",
        description=(
            "The table of all samples at this dataset version, one row a sample. Versions share the Parquet fragments "
            "of the batches they have in common."
        ),
    )
    def manifest(
        context: dg.AssetExecutionContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        artifacts: dg.ResourceParam[ArtifactStore],
    ) -> dg.MaterializeResult:
        from visionops_assets.dataset.presentation import class_table, sample_pictures
        from visionops_assets.dataset.versions.commit_log import tags_of_version
        from visionops_assets.dataset.versions.dataset_version import build_version

        with clear_failures(context):
            version = build_version(lakefs, artifacts, project, context.partition_key)
            pictures = sample_pictures(lakefs, project, version, SAMPLES_SHOWN)
            # A run of the sensor says so from its beginning.
            tags = tags_of_version(lakefs, project, version.commit)
            missing = {name: value for name, value in tags.items() if name not in context.run.tags}
            context.instance.add_run_tags(context.run.run_id, missing)
        used = version.used
        return dg.MaterializeResult(
            value=version.manifest.to_json(),
            data_version=dg.DataVersion(version.manifest.digest),
            metadata={
                "samples": len(used),
                "excluded": len(version.samples) - len(used),
                "batches": outputs.table(used.groupby("batch", sort=True).size().reset_index(name="samples")),
                "classes": outputs.table(class_table(used)),
                "examples": dg.MetadataValue.md(pictures),
                "commit": dg.MetadataValue.url(
                    lakefs.link(project.repository, f"commits/{version.commit.id}")
                ),
                "message": version.commit.message,
                "fragments": len(version.manifest.fragments),
            },
        )

    return manifest
