"""What leaves a challenger unproven: each rule yields an INSUFFICIENT in words, or nothing."""

import math
from collections.abc import Iterator

from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.phrases import bound_in_words, counts, models, points, probability
from visionops_assets.evaluation.power import labels_to_collect
from visionops_assets.evaluation.slices import empty_critical_slices
from visionops_assets.evaluation.verdict import Evidence, Reason

_DECLARE_GROUPS = (
    "Images of one group are one piece of evidence: declare finer groups (session, day or part), or none where images "
    "are independent of each other."
)


def unchanged(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """The challenger is another model than the champion."""
    if context.unchanged:
        yield _doubt("unchanged", "challenger", "the challenger is the champion itself: nothing changes.")


def small_holdout(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """The holdout has the images the gate asks for."""
    if evidence.rows < rules.min_holdout:
        labels = labels_to_collect(rules.min_holdout, evidence.rows, context.holdout_share)
        more = f" That takes about {labels:,} more labels." if labels is not None else ""
        yield _doubt(
            "min_holdout",
            "holdout",
            f"the holdout has {evidence.rows} images, the gate asks for at least {rules.min_holdout}.{more}",
        )


def uniform_holdout(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """The holdout has several classes, and groups enough to tell luck from gain."""
    if evidence.present_classes < min(2, len(context.classes)):
        present = next((name for name in context.classes if name not in evidence.absent_classes), "none")
        yield _doubt("single_class", "holdout", f"the holdout has images of one class only, {present!r}.")
    if evidence.groups < 2:
        yield _doubt(
            "single_group",
            "holdout",
            f"the holdout is one group: how its images vary cannot be estimated. {_DECLARE_GROUPS}",
        )
    elif context.champion is not None and rules.require == "superior" and evidence.groups < evidence.rows:
        needed = math.ceil(-math.log2(context.level(rules)))
        if evidence.groups < needed:
            yield _doubt(
                "few_groups",
                "holdout",
                f"the holdout is {evidence.groups} groups: all of them in the challenger's favour would still be "
                f"chance with p = {probability(2.0**-evidence.groups)}; to claim at {context.level(rules):.3g} takes "
                f"at least {needed}. {_DECLARE_GROUPS}",
            )


def critical_slices(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """Every critical slice has images, and is shown to be no worse."""
    for name in empty_critical_slices(evidence.slices, rules):
        yield _doubt("critical_slice", name, f"no holdout image belongs to the critical slice {name}.")
    if context.champion is None:
        return
    margin = rules.min_improvement
    for row in evidence.slices:
        if row.critical and (row.lower is None or row.lower.value < -margin):
            bound = bound_in_words(row.lower, evidence.primary.unit, margin)
            text = f"the critical slice {row.name()} is not shown to be no worse: {bound}."
            if row.rows_needed is not None and row.rows_needed > row.rows:
                text += f" {row.rows_needed:,} holdout images of it would show a difference of the margin."
            yield _doubt("critical_slice", row.name(), text)


def non_inferiority(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """The challenger is shown to be no worse on the whole."""
    if context.champion is None or context.unchanged:
        return
    primary, margin = evidence.primary, rules.min_improvement
    spends = rules.require == "non_inferior"
    bound = primary.claim if spends else primary.lower
    advice = _labels(evidence, "that no more is lost than") if spends else ""
    if bound is None or bound.value < -margin:
        found = bound_in_words(bound, primary.unit, margin)
        text = f"the challenger is not shown to be no worse: {found}.{advice}"
        yield _doubt("non_inferior", primary.metric, text)
    elif spends and (primary.p_margin is None or primary.p_margin > context.level(rules)):
        text = (
            f"{evidence.rows} holdout images with so few differences do not show that the challenger is no worse "
            f"(p = {probability(primary.p_margin)} at {context.level(rules):.3g}).{advice}"
        )
        yield _doubt("non_inferior", primary.metric, text)


def superiority(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """The challenger is shown to be better, at the level left to it."""
    if context.champion is None or context.unchanged or rules.require == "non_inferior":
        return
    primary, level = evidence.primary, context.level(rules)
    shown = primary.p_superior is not None and primary.p_superior <= level
    # Where no images are counted as won, the bound has to agree.
    if primary.wins is None:
        shown = shown and primary.claim is not None and primary.claim.value > 0
    if not shown:
        yield _doubt(
            "superior",
            primary.metric,
            f"the challenger is not shown to be better: {models(primary)} "
            f"({counts(primary)}p = {probability(primary.p_superior)}, to claim it needs {level:.3g} as challenger "
            f"number {context.k}).{_labels(evidence, 'a gain of')}",
        )


def _doubt(rule: str, subject: str, text: str) -> Reason:
    return Reason(effect="INSUFFICIENT", rule=rule, subject=subject, text=text)


def _labels(evidence: Evidence, what: str) -> str:
    labels = evidence.labels
    if labels is None:
        return ""
    if labels.rows_needed is None:
        return (
            " The two models never differ on this holdout: more labels of its kind would not tell them apart."
        )
    size = points(labels.improvement, evidence.primary.unit, signed=False)
    if labels.rows_needed <= labels.rows_now:
        return (
            f" The holdout is large enough to show {what} {size} (needed: {labels.rows_needed:,} images): "
            "look for a better model before more labels."
        )
    more = f", about {labels.labels_to_collect:,} more labels" if labels.labels_to_collect else ""
    return f" To show {what} {size} with 80% power takes {labels.rows_needed:,} holdout images{more}."
