"""`evaluation`: champion and challenger on one holdout, and the verdict of the gate, shown as a check.

The verdict is data, and the check says what it is; `champion` asks the verdict, not the check.
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from resources.error_family import NotFound
from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from resources.service_clients import Stores
from resources.storage import ArtifactStore, Scratch
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.evaluation.verdict import Kind, Verdict
from visionops_assets.evaluation.verdict_store import read_address, write_address
from visionops_assets.evaluation.verdict_wording import verdict_summary
from visionops_assets.shells.asset_options import dataset_versions, partitioned_check, versioned
from visionops_assets.shells.job_execution import clear_failures
from visionops_assets.training.challenger import Challenger

RUN_OUTCOMES = {"FAIL": run_tags.REFUSED, "INSUFFICIENT": run_tags.INSUFFICIENT}


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
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
        scratch: dg.ResourceParam[Scratch],
    ) -> dg.MaterializeResult:
        from visionops_assets.dataset.versions.dataset_version import read_version
        from visionops_assets.evaluation.evaluate import Question, evaluate_challenger
        from visionops_assets.evaluation.presentation import verdict_metadata
        from visionops_assets.evaluation.run_records import version_trained_on

        with clear_failures(context):
            made = Challenger.from_record(challenger)
            submitted = context.run.tags.get(run_tags.SUBMITTED, made.run_id)
            if submitted != made.run_id:
                raise NotFound(
                    f"run {submitted} was submitted, but another run of Dagster has put {made.run_id} in its place "
                    "meanwhile: submit it again"
                )
            version = read_version(lakefs, artifacts, project, context.partition_key)
            question = Question(
                project,
                version,
                version_trained_on(project, version, made, lakefs, registry, artifacts),
                made,
                run_tags.kind_of_run(context.run.tags),
            )
            evaluated = evaluate_challenger(
                question,
                Stores(lakefs, registry, artifacts, scratch),
                dagster_run_id=context.run.run_id,
                say=context.log.info,
            )
            verdict = evaluated.verdict
            # The sensor takes a decision for done when this is written.
            write_address(artifacts, verdict, made, context.partition_key)
            run = registry.runs.get(made.run_id)
        return dg.MaterializeResult(
            value=evaluated.predictions,
            data_version=dg.DataVersion(verdict.identity),
            metadata={
                **verdict_metadata(verdict, evaluated.predictions, project.classes, evaluated.examples),
                "reused": evaluated.reused,
                "evidence": dg.MetadataValue.url(registry.run_url(run, f"verdicts/{verdict.identity}")),
            },
        )

    return evaluation


def evaluation_checks(project: Project, evaluation: dg.AssetsDefinition) -> list[dg.AssetChecksDefinition]:
    """The checks on `evaluation`."""

    @partitioned_check(
        asset=evaluation,
        blocking=True,
        partitions_def=dataset_versions(project.project),
        description=(
            "The gate: honest statistics on one holdout. What FAIL and INSUFFICIENT stop is `champion`, which asks the "
            "stored decision itself: a refusal is a warning, since nothing went wrong. Where there is no verdict "
            "nothing goes on."
        ),
    )
    def beats_champion(
        context: dg.AssetCheckExecutionContext,
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
    ) -> dg.AssetCheckResult:
        from visionops_assets.evaluation.presentation import gate_metadata

        kind = run_tags.kind_of_run(context.run.tags)
        with clear_failures():
            verdict = _latest(
                registry, artifacts, project, context.partition_key, (kind, "decision", "what_if")
            )
        passed = verdict.verdict == "PASS"
        if kind == "decision" and not passed:
            context.instance.add_run_tags(
                context.run.run_id, {run_tags.OUTCOME: RUN_OUTCOMES[verdict.verdict]}
            )
        return dg.AssetCheckResult(
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=verdict_summary(verdict),
            metadata=gate_metadata(verdict),
        )

    return [beats_champion]


def _latest(
    registry: ModelRegistry, artifacts: ArtifactStore, project: Project, partition: str, kinds: Iterable[Kind]
) -> Verdict:
    from visionops_assets.evaluation.verdict_store import find

    for kind in kinds:
        address = read_address(artifacts, kind, project.project, partition)
        if address is not None:
            verdict = find(registry, project.project, address.run_id, address.identity, kind)
            if verdict is not None:
                return verdict
    raise NotFound(f"no verdict is stored for {partition}: materialise evaluation first")
