"""The gate, shown: the verdict is data, and the check says what it is; `champion` asks the verdict, not the check."""

from collections.abc import Iterable

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.models.registry import ModelRegistry
from visionops_assets.common import run_tags
from visionops_assets.evaluation.address import read_address
from visionops_assets.evaluation.verdict import Kind, Verdict
from visionops_assets.evaluation.wording import verdict_summary
from visionops_assets.failures import clear_failures
from visionops_assets.partitioned_check import partitioned_check
from visionops_assets.partitions import dataset_versions
from visionops_assets.project import Project

OUTCOMES = {"FAIL": run_tags.REFUSED, "INSUFFICIENT": run_tags.INSUFFICIENT}


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
        context: dg.AssetCheckExecutionContext, registry: ModelRegistry, artifacts: ArtifactStore
    ) -> dg.AssetCheckResult:
        from visionops_assets.evaluation.presentation import gate_metadata

        kind = run_tags.kind_of_run(context.run.tags)
        with clear_failures():
            verdict = _latest(
                registry, artifacts, project, context.partition_key, (kind, "decision", "what_if")
            )
        passed = verdict.verdict == "PASS"
        if kind == "decision" and not passed:
            context.instance.add_run_tags(context.run.run_id, {run_tags.OUTCOME: OUTCOMES[verdict.verdict]})
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
    from visionops_assets.evaluation.verdicts import find

    for kind in kinds:
        address = read_address(artifacts, kind, project.project, partition)
        if address is not None:
            verdict = find(registry, project.project, address.run_id, address.identity, kind)
            if verdict is not None:
                return verdict
    raise LookupError(f"no verdict is stored for {partition}: materialise evaluation first")
