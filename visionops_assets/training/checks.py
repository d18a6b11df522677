"""What a challenger must show before it is evaluated."""

import json
from typing import Any

import dagster as dg

from resources.models.registry import ModelRegistry
from visionops_assets.failures import clear_failures
from visionops_assets.partitioned_check import partitioned_check
from visionops_assets.partitions import dataset_versions
from visionops_assets.project import Project
from visionops_assets.training.challenger import PARITY_ARTIFACT, Challenger


def challenger_checks(project: Project, challenger: dg.AssetsDefinition) -> list[dg.AssetChecksDefinition]:
    """The checks on `challenger`."""

    @partitioned_check(
        asset=challenger,
        blocking=True,
        partitions_def=dataset_versions(project.project),
        description="The ONNX file that ships says what the trained model says, on golden images.",
    )
    def export_parity(
        context: dg.AssetCheckExecutionContext, challenger: dict[str, Any], registry: ModelRegistry
    ) -> dg.AssetCheckResult:
        with clear_failures():
            made = Challenger.from_record(challenger)
            proof = json.loads(registry.artifacts.read_bytes(made.run_id, PARITY_ARTIFACT))
        return dg.AssetCheckResult(
            passed=bool(proof["passed"]),
            description=proof["summary"],
            metadata={
                "images": int(proof["images"]),
                "largest_difference": float(proof["largest_difference"]),
                "allowed_difference": float(proof["tolerance"]),
                "same_first_class": float(proof["agreement"]),
            },
        )

    return [export_parity]
