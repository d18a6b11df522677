"""The gate: predictions and rules in, verdict out; from evidence to a verdict by refusals, then doubts, then the
claim.
"""

from collections.abc import Callable, Iterator

import pandas as pd

from visionops_assets.champions.registered_model import Outcome
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation import gate_reasons
from visionops_assets.evaluation.context import GateContext
from visionops_assets.evaluation.evaluation_task import evaluation_task
from visionops_assets.evaluation.verdict import Evidence, Reason, Verdict
from visionops_assets.evaluation.verdict_wording import (
    amount,
    bound_in_words,
    counts,
    loss_found_in_words,
    models,
    points,
    points_tolerated,
    probability,
)

__all__ = ["GateContext", "gate_verdict"]
Rule = Callable[[Evidence, GateRules, GateContext], Iterator[Reason]]
_REFUSALS: tuple[Rule, ...] = (
    gate_reasons.unknown_training_data,
    gate_reasons.leakage,
    gate_reasons.floors,
    gate_reasons.regressions,
    gate_reasons.dearer_errors,
    gate_reasons.constant_answer,
)
_DOUBTS: tuple[Rule, ...] = (
    gate_reasons.unchanged,
    gate_reasons.small_holdout,
    gate_reasons.uniform_holdout,
    gate_reasons.critical_slices,
    gate_reasons.non_inferiority,
    gate_reasons.superiority,
)
_NOTES: tuple[Rule, ...] = (
    gate_reasons.made_elsewhere,
    gate_reasons.came_between,
    gate_reasons.suspect_batches,
    gate_reasons.floor_exceptions,
    gate_reasons.absent_classes,
    gate_reasons.slices_not_tested,
    gate_reasons.approximations,
)


def gate_verdict(predictions: pd.DataFrame, rules: GateRules, *, context: GateContext) -> Verdict:
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
        outcome, reasons = apply_rules(evidence, rules, context)
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
        training=context.training,
    )


def _null_hypothesis(rules: GateRules, context: GateContext) -> str:
    if context.champion is None:
        return "no champion: the floors alone"
    against = f"champion {context.champion.name()}"
    if rules.require == "superior":
        return f"{against}: the difference is 0 or less"
    unit = f"{rules.costs.unit} per image" if rules.costs else "share"
    return (
        f"{against}: the challenger is worse by {points(rules.min_improvement, unit, signed=False)} or more"
    )


def apply_rules(evidence: Evidence, rules: GateRules, context: GateContext) -> tuple[Outcome, list[Reason]]:
    """The outcome, and its reasons, weightiest first, then the notes.

    FAIL where a refusal speaks, else INSUFFICIENT where a doubt does, else PASS with its claim.
    """
    outcome: Outcome = "FAIL"
    reasons = _spoken(_REFUSALS, evidence, rules, context)
    if not reasons:
        outcome = "INSUFFICIENT"
        reasons = _spoken(_DOUBTS, evidence, rules, context)
    if not reasons:
        outcome = "PASS"
        reasons = [_claim(evidence, rules, context)]
    return outcome, [*reasons, *_spoken(_NOTES, evidence, rules, context)]


def _spoken(
    asked: tuple[Rule, ...], evidence: Evidence, rules: GateRules, context: GateContext
) -> list[Reason]:
    return [reason for rule in asked for reason in rule(evidence, rules, context)]


def _claim(evidence: Evidence, rules: GateRules, context: GateContext) -> Reason:
    primary = evidence.primary
    if context.champion is None:
        text = (
            f"the first champion: {primary.metric} {amount(primary.challenger, primary.unit)} on {evidence.rows} "
            "holdout images, and every floor holds."
        )
        return Reason(effect="PASS", rule="floor", subject="overall", text=text)
    if rules.require == "non_inferior":
        bound = bound_in_words(primary.claim, primary.unit, rules.min_improvement)
        text = f"the challenger is no worse: {models(primary)} ({bound}), and {_slices(evidence)}."
    else:
        text = (
            f"the challenger is better: {models(primary)} ({counts(primary)}p = "
            f"{probability(primary.p_superior)} at {context.level(rules):.3g}), and {_slices(evidence)}."
        )
    return Reason(effect="PASS", rule=rules.require, subject=primary.metric, text=text)


def _slices(evidence: Evidence) -> str:
    """That no slice got worse, and how little of the least known one is known."""
    tested = [row for row in evidence.slices if row.loss_found is not None and row.column is not None]
    if not tested:
        return "no slice has enough images to be tested"
    least = max(tested, key=lambda row: row.loss_found or 0.0)
    return (
        f"none of {len(tested)} slices is shown to have lost more than {points_tolerated(least)} (least is known of "
        f"{least.name()}: {loss_found_in_words(least)})"
    )
