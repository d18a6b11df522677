"""`challenger`: the model of a dataset version, by this project's recipe and code; and what it must show before it
is evaluated.
"""

import json
import math
from typing import Any

import dagster as dg
from pydantic import Field

from resources.lakefs.client import LakeFSResource
from resources.models.records import TAG_DAGSTER_RUN, TAG_PARTITION, TAG_UNSEEN
from resources.models.registry import ModelRegistry
from resources.service_clients import Stores
from resources.storage import ArtifactStore, Scratch
from visionops_assets.config.project import Project
from visionops_assets.shells.asset_options import dataset_versions, partitioned_check, versioned
from visionops_assets.shells.job_execution import clear_failures
from visionops_assets.shells.outputs import picture
from visionops_assets.training.challenger import PARITY_ARTIFACT, Challenger, training_version


class WhichRun(dg.Config):
    """Where the challenger comes from."""

    run: str = Field(
        default="",
        description="MLflow run of an experiment that takes the place of a training; by default the recipe is trained.",
    )


def challenger_asset(project: Project, manifest: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The `challenger` asset of a project."""

    @dg.asset(
        **versioned(project, "challenger", ["pytorch", "mlflow", "onnx"]),
        deps=[manifest],
        io_manager_key="records",
        code_version=training_version(project),
        description=(
            "The model trained on this dataset version, and the ONNX file that ships. The same commit, recipe and "
            "code give the same weights, bit for bit; a finished training is found and reused. `visionops submit` puts "
            "an experiment's run in its place."
        ),
    )
    def challenger(
        context: dg.AssetExecutionContext,
        config: WhichRun,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
        scratch: dg.ResourceParam[Scratch],
    ) -> dg.MaterializeResult:
        from visionops_assets.dataset.versions.dataset_version import read_version
        from visionops_assets.training.challenge import challenge
        from visionops_assets.training.challenger import (
            CURVES_ARTIFACT,
            PARITY_ARTIFACT,
            submitted_challenger,
        )

        with clear_failures(context):
            made_with = project.recipe.model_dump(mode="json")
            if config.run:
                made, provenance = submitted_challenger(registry, lakefs, project, config.run)
                reused, made_with = True, provenance.made_with
            else:
                made, reused = challenge(
                    project,
                    read_version(lakefs, artifacts, project, context.partition_key),
                    Stores(lakefs, registry, artifacts, scratch),
                    tags={TAG_DAGSTER_RUN: context.run.run_id},
                    say=context.log.info,
                )
            run = registry.runs.get(made.run_id)
            parity = json.loads(registry.artifacts.read_bytes(run.id, PARITY_ARTIFACT))
            curves = None
            if registry.artifacts.exists(run.id, CURVES_ARTIFACT):
                curves = registry.artifacts.read_bytes(run.id, CURVES_ARTIFACT)
        return dg.MaterializeResult(
            value=made.to_record(),
            data_version=dg.DataVersion(made.weights_sha256),
            metadata={
                "mlflow_run": dg.MetadataValue.url(registry.run_url(run)),
                "submitted": bool(config.run),
                "trained_on": run.tags[TAG_PARTITION]
                if TAG_UNSEEN not in run.tags
                else f"unknown; {run.tags[TAG_UNSEEN]}",
                **({"learning_curves": picture(curves)} if curves is not None else {}),
                "reused": reused,
                **{name: float(value) for name, value in sorted(run.metrics.items())},
                "weights_sha256": made.weights_sha256,
                "onnx_sha256": made.onnx_sha256,
                "export_parity": parity["summary"],
                "code_digest": made.code_digest,
                "recipe": dg.MetadataValue.json(made_with),
            },
        )

    return challenger


def challenger_checks(project: Project, challenger: dg.AssetsDefinition) -> list[dg.AssetChecksDefinition]:
    """The checks on `challenger`."""

    @partitioned_check(
        asset=challenger,
        blocking=True,
        partitions_def=dataset_versions(project.project),
        description="The ONNX file that ships says what the trained model says, on golden images.",
    )
    def export_parity(
        context: dg.AssetCheckExecutionContext,
        challenger: dict[str, Any],
        registry: dg.ResourceParam[ModelRegistry],
    ) -> dg.AssetCheckResult:
        with clear_failures():
            made = Challenger.from_record(challenger)
            proof = json.loads(registry.artifacts.read_bytes(made.run_id, PARITY_ARTIFACT))
        return dg.AssetCheckResult(
            passed=bool(proof["passed"]),
            description=proof["summary"],
            metadata={
                "images": int(proof["images"]),
                # Infinite where shapes differ or the file does not run; JSON has no such number.
                "largest_difference": str(proof["largest_difference"])
                if math.isinf(proof["largest_difference"])
                else float(proof["largest_difference"]),
                "allowed_difference": float(proof["tolerance"]),
                "same_first_class": float(proof["agreement"]),
            },
        )

    return [export_parity]
