"""`images` and `manifest`: what a lakeFS commit holds."""

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.lakefs import LakeFSResource
from visionops_assets import metadata
from visionops_assets.asset_options import versioned
from visionops_assets.failures import RETRY, clear_failures
from visionops_assets.project import Project

SAMPLES_SHOWN = 12


def images_asset(project: Project) -> dg.AssetSpec:
    """The images themselves: external, observed by the commit sensor."""
    return dg.AssetSpec(
        **versioned(project, "images", ["lakefs"]),
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
        retry_policy=RETRY,
        description=(
            "The table of all samples at this dataset version, one row a sample. Versions share the Parquet fragments "
            "of the batches they have in common."
        ),
    )
    def manifest(
        context: dg.AssetExecutionContext, lakefs: LakeFSResource, artifacts: ArtifactStore
    ) -> dg.MaterializeResult:
        from visionops_assets.dataset.presentation import class_table, sample_pictures
        from visionops_assets.dataset.version import build_version

        with clear_failures(context):
            version = build_version(lakefs, artifacts, project, context.partition_key)
            pictures = sample_pictures(lakefs, project, version, SAMPLES_SHOWN)
        used = version.used
        return dg.MaterializeResult(
            value=version.manifest.to_json(),
            data_version=dg.DataVersion(version.manifest.digest),
            metadata={
                "samples": len(used),
                "excluded": len(version.samples) - len(used),
                "batches": metadata.table(
                    used.groupby("batch", sort=True).size().reset_index(name="samples")
                ),
                "classes": metadata.table(class_table(used)),
                "examples": dg.MetadataValue.md(pictures),
                "commit": dg.MetadataValue.url(
                    lakefs.link(project.repository, f"commits/{version.commit.id}")
                ),
                "message": version.commit.message,
                "fragments": len(version.manifest.fragments),
            },
        )

    return manifest
