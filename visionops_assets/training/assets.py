"""`challenger`: the model of a dataset version, by this project's recipe and code."""

import json

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.lakefs import LakeFSResource
from resources.model_registry import ModelRegistry
from resources.scratch import Scratch
from visionops_assets.asset_options import versioned
from visionops_assets.failures import RETRY, clear_failures
from visionops_assets.metadata import picture
from visionops_assets.project import Project
from visionops_assets.training.training_version import training_version


def challenger_asset(project: Project, manifest: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The `challenger` asset of a project."""

    @dg.asset(
        **versioned(project, "challenger", ["pytorch", "mlflow", "onnx"]),
        deps=[manifest],
        io_manager_key="records",
        code_version=training_version(project),
        retry_policy=RETRY,
        description=(
            "The model trained on this dataset version, and the ONNX file that ships. The same commit, recipe and "
            "code give the same weights, bit for bit; a finished training is found and reused."
        ),
    )
    def challenger(
        context: dg.AssetExecutionContext,
        lakefs: LakeFSResource,
        registry: ModelRegistry,
        artifacts: ArtifactStore,
        scratch: Scratch,
    ) -> dg.MaterializeResult:
        from visionops_assets.dataset.version import read_version
        from visionops_assets.training.challenge import challenge
        from visionops_assets.training.challenger import CURVES_ARTIFACT, PARITY_ARTIFACT

        with clear_failures(context):
            version = read_version(lakefs, artifacts, project, context.partition_key)
            made, reused = challenge(
                project,
                version,
                lakefs=lakefs,
                registry=registry,
                scratch=scratch,
                dagster_run_id=context.run.run_id,
                say=context.log.info,
            )
            run = registry.runs.get(made.run_id)
            parity = json.loads(registry.artifacts.read_bytes(run.id, PARITY_ARTIFACT))
            curves = registry.artifacts.read_bytes(run.id, CURVES_ARTIFACT)
        return dg.MaterializeResult(
            value=made.to_record(),
            data_version=dg.DataVersion(made.weights_sha256),
            metadata={
                "mlflow_run": dg.MetadataValue.url(registry.run_url(run)),
                "learning_curves": picture(curves),
                "reused": reused,
                **{name: float(value) for name, value in sorted(run.metrics.items())},
                "weights_sha256": made.weights_sha256,
                "onnx_sha256": made.onnx_sha256,
                "export_parity": parity["summary"],
                "code_digest": made.code_digest,
                "recipe": dg.MetadataValue.json(project.recipe.model_dump(mode="json")),
            },
        )

    return challenger
