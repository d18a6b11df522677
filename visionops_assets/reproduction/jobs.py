"""The job that makes a registered version again."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from resources.lakefs.client import LakeFSResource
from resources.models.records import version_on
from resources.models.registry import ModelRegistry
from resources.service_clients import Stores
from resources.storage import ArtifactStore, Scratch
from visionops_assets.config.project import Project
from visionops_assets.shells.job_execution import clear_failures, job_options


class WhichVersion(dg.Config):
    """What to make again, and how."""

    version: int | None = Field(
        default=None, description="A registered version; by default the one in production."
    )
    inputs_only: bool = Field(default=False, description="Compare the recorded inputs; train nothing.")
    present_versions: bool = Field(
        default=False, description="Train with the packages installed here, not those recorded."
    )
    unverified: bool = Field(
        default=False,
        description="Follow the record of a version that was registered before its digest was, unverified.",
    )


def reproduce_job(project: Project, in_production: dg.AssetsDefinition) -> dg.JobDefinition:
    """The job that reproduces a version of a project; it fails where the version cannot be made again."""

    @dg.op(
        name=f"{project.project}_make_again",
        description="Trains a registered version again in its recorded world, and stores the certificate with it.",
    )
    def make_again(
        context: dg.OpExecutionContext,
        config: WhichVersion,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
        scratch: dg.ResourceParam[Scratch],
    ) -> None:
        from visionops_assets.reproduction.reproduce import Scope, reproduce

        with clear_failures(context):
            made = reproduce(
                Stores(lakefs, registry, artifacts, scratch),
                project.project,
                config.version,
                when=datetime.now(UTC),
                scope=Scope(
                    inputs_only=config.inputs_only,
                    present_versions=config.present_versions,
                    unverified=config.unverified,
                ),
                say=context.log.info,
            )
            certificate = made.certificate
            page = registry.run_url(registry.runs.get(made.run_id), made.page)
            metadata: dict[str, Any] = {
                "version": certificate.version,
                "reproduction": certificate.result,
                "finding": certificate.words,
                "record_verified": certificate.verified,
                "certificate": dg.MetadataValue.url(page),
            }
            if certificate.version == version_on(registry.models.get(project.project)):
                context.log_event(dg.AssetObservation(asset_key=in_production.key, metadata=metadata))
            if not certificate.holds:
                raise dg.Failure(description=certificate.words, metadata=metadata, allow_retries=False)
            context.add_output_metadata(metadata)

    @dg.job(
        name=f"{project.project}_reproduce",
        description=(
            "Make a registered version again from its recorded code, package versions and data, and certify whether "
            "it is the same."
        ),
        **job_options(project),
    )
    def job() -> None:
        make_again()

    return job
