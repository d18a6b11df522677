"""The gate: predictions and rules in, verdict out."""

import pandas as pd

from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.decide import decide
from visionops_assets.evaluation.phrases import points
from visionops_assets.evaluation.tasks import evaluation_task
from visionops_assets.evaluation.verdict import Evidence, Outcome, Reason, Verdict

__all__ = ["JudgementContext", "judge"]


def judge(predictions: pd.DataFrame, rules: GateRules, *, context: JudgementContext) -> Verdict:
    """Judge a challenger on the holdout. Pure: the same arguments give the same verdict.

    `predictions` has one row a holdout sample: `sha256, path, batch, group, label`, the declared slice
    columns, and `champion_` and `challenger_` `prediction, confidence, probabilities`; no champion columns
    where there is no champion. In detection (`context.task`) `boxes` stands in place of `label`, and each model has
    `boxes` alone. A table that cannot be measured (a missing column, a number that is not
    finite, an unknown label) is a FAIL that names it, not an exception.
    """
    evidence: Evidence | None = None
    outcome: Outcome
    task = evaluation_task(context.task)
    faults = task.faults(predictions, rules, context)
    if faults:
        outcome = "FAIL"
        reasons = [Reason(effect="FAIL", rule="unfit", subject="predictions", text=f"{f}.") for f in faults]
    elif (absence := task.absence(predictions)) is not None:
        outcome = "INSUFFICIENT"
        reasons = [Reason(effect=outcome, rule="min_holdout", subject="holdout", text=absence)]
    else:
        evidence = task.measure(predictions, rules, context)
        outcome, reasons = decide(evidence, rules, context)
    return Verdict(
        verdict=outcome,
        kind=context.kind,
        project=context.project,
        challenger=context.challenger,
        champion=context.champion,
        holdout_digest=context.holdout_digest,
        rules_digest=rules.digest(),
        rules=rules.bearing(),
        k=context.k,
        alpha=rules.alpha,
        alpha_k=context.level(rules),
        claimed_against=_null_hypothesis(rules, context),
        reasons=reasons,
        evidence=evidence,
        created_at=context.created_at,
        dagster_run_id=context.dagster_run_id,
    )


def _null_hypothesis(rules: GateRules, context: JudgementContext) -> str:
    if context.champion is None:
        return "no champion: the floors alone"
    against = f"champion {context.champion.name()}"
    if rules.require == "superior":
        return f"{against}: the difference is 0 or less"
    unit = f"{rules.costs.unit} per image" if rules.costs else "share"
    return (
        f"{against}: the challenger is worse by {points(rules.min_improvement, unit, signed=False)} or more"
    )
