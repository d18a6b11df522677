"""From evidence to a verdict: refusals, then doubts, then the claim."""

from collections.abc import Callable, Iterator

from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation import doubts, notes, refusals
from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.phrases import (
    amount,
    bound_in_words,
    counts,
    loss_found_in_words,
    models,
    points_tolerated,
    probability,
)
from visionops_assets.evaluation.verdict import Evidence, Outcome, Reason

Rule = Callable[[Evidence, GateRules, JudgementContext], Iterator[Reason]]

_REFUSALS: tuple[Rule, ...] = (
    refusals.leakage,
    refusals.floors,
    refusals.regressions,
    refusals.dearer_errors,
    refusals.constant_answer,
)
_DOUBTS: tuple[Rule, ...] = (
    doubts.unchanged,
    doubts.small_holdout,
    doubts.uniform_holdout,
    doubts.critical_slices,
    doubts.non_inferiority,
    doubts.superiority,
)
_NOTES: tuple[Rule, ...] = (
    notes.came_between,
    notes.suspect_batches,
    notes.floor_exceptions,
    notes.absent_classes,
    notes.slices_not_tested,
    notes.approximations,
)


def decide(evidence: Evidence, rules: GateRules, context: JudgementContext) -> tuple[Outcome, list[Reason]]:
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
    asked: tuple[Rule, ...], evidence: Evidence, rules: GateRules, context: JudgementContext
) -> list[Reason]:
    return [reason for rule in asked for reason in rule(evidence, rules, context)]


def _claim(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Reason:
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
