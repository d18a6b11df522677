"""`evaluation`: champion and challenger on one holdout, and the verdict of the gate."""

from typing import Any

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from resources.scratch import Scratch
from visionops_assets.asset_options import versioned
from visionops_assets.common import run_tags
from visionops_assets.evaluation.address import write_address
from visionops_assets.failures import clear_failures
from visionops_assets.project import Project
from visionops_assets.training.challenger import Challenger


def evaluation_asset(
    project: Project, manifest: dg.AssetsDefinition, challenger: dg.AssetsDefinition
) -> dg.AssetsDefinition:
    """The `evaluation` asset of a project; its value is the predictions table."""

    @dg.asset(
        **versioned(project, "evaluation", ["onnx", "pandas", "mlflow"]),
        deps=[manifest],
        ins={"challenger": dg.AssetIn(challenger.key)},
        io_manager_key="tables",
        description=(
            "What champion and challenger answer on the same holdout, as the ONNX files that ship, and the verdict: "
            "PASS, FAIL or INSUFFICIENT. Only a decision (the sensor's run) may promote; anything else is a what-if."
        ),
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        challenger: dict[str, Any],
        lakefs: LakeFSResource,
        registry: ModelRegistry,
        artifacts: ArtifactStore,
        scratch: Scratch,
    ) -> dg.MaterializeResult:
        from visionops_assets.dataset.versions.dataset_version import read_version
        from visionops_assets.evaluation.evaluate import judge_challenger
        from visionops_assets.evaluation.presentation import verdict_metadata
        from visionops_assets.evaluation.seen import version_trained_on

        with clear_failures(context):
            made = Challenger.from_record(challenger)
            submitted = context.run.tags.get(run_tags.SUBMITTED, made.run_id)
            if submitted != made.run_id:
                raise LookupError(
                    f"run {submitted} was submitted, but another run of Dagster has put {made.run_id} in its place "
                    "meanwhile: submit it again"
                )
            version = read_version(lakefs, artifacts, project, context.partition_key)
            judged = judge_challenger(
                project,
                version,
                made,
                run_tags.kind_of_run(context.run.tags),
                lakefs=lakefs,
                registry=registry,
                artifacts=artifacts,
                scratch=scratch,
                dagster_run_id=context.run.run_id,
                say=context.log.info,
                trained_on=version_trained_on(project, version, made, lakefs, registry, artifacts),
            )
            verdict = judged.verdict
            # The sensor takes a decision for done when this is written.
            write_address(artifacts, verdict, made, context.partition_key)
            run = registry.runs.get(made.run_id)
        return dg.MaterializeResult(
            value=judged.predictions,
            data_version=dg.DataVersion(verdict.identity),
            metadata={
                **verdict_metadata(verdict, judged.predictions, project.classes, judged.examples),
                "reused": judged.reused,
                "evidence": dg.MetadataValue.url(registry.run_url(run, f"verdicts/{verdict.identity}")),
            },
        )

    return evaluation
