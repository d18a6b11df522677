"""What refuses a challenger: each rule reads the evidence and yields a FAIL in words, or nothing."""

from collections.abc import Iterator

from visionops_assets.config.gate_rules import BATCH_SLICE, GateRules
from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.phrases import (
    amount,
    counts,
    loss_found_in_words,
    percent,
    points_tolerated,
    probability,
    retract_command,
)
from visionops_assets.evaluation.verdict import Evidence, Reason, SliceRow


def leakage(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """No holdout image was trained on."""
    if not evidence.leak_count:
        return
    first = evidence.leaks[0]
    place = first.holdout_path or first.holdout_sha256[:12]
    twin = first.training_path or first.training_sha256[:12]
    how = "the same bytes as" if first.kind == "checksum" else "a near duplicate of"
    yield Reason(
        effect="FAIL",
        rule="leakage",
        subject=place,
        text=f"{evidence.leak_count} holdout images were trained on, first {place}: {how} {twin}. "
        "Mark the training copies `excluded` and train again.",
    )


def floors(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """No accuracy or average precision is below its floor; what lies furthest below comes first."""
    broken = [(row, row.floor) for row in evidence.slices if row.below_floor and row.floor is not None]
    # One bad batch drags the whole and the classes down too, but none so far as itself.
    for row, floor in sorted(broken, key=lambda each: each[0].challenger - each[1]):
        text = (
            f"{_called(row)}: {row.metric} {percent(row.challenger)} on {row.rows} holdout images is below "
            f"its floor of {percent(floor)}."
        )
        if row.champion is not None:
            text += f" The champion has {percent(row.champion)}."
        if champion_holds(row):
            text += " So its images and labels can be learnt."
        elif row.column == BATCH_SLICE:
            text += f" If its labels are wrong: `{retract_command(context.project, row.value)}`"
        yield Reason(effect="FAIL", rule="floor", subject=row.name(), text=text)


def regressions(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """No slice lost significantly more than is tolerated."""
    worse = [row for row in evidence.slices if row.regressed and row.champion is not None]
    tests = sum(row.p_worse is not None for row in evidence.slices)
    for row in sorted(worse, key=lambda row: row.p_worse_holm or 0.0):
        yield Reason(
            effect="FAIL",
            rule="regression",
            subject=row.name(),
            text=f"{_called(row)} got worse: {row.metric} {percent(row.challenger)} against the champion's "
            f"{percent(row.champion)} on {row.rows} holdout images ({counts(row)}"
            f"p = {probability(row.p_worse_holm)} of a loss of at most {points_tolerated(row)}, after Holm over "
            f"{tests} slices, at {rules.alpha:g}). {loss_found_in_words(row).capitalize()}.",
        )


def champion_holds(row: SliceRow) -> bool:
    """Whether a slice is below its floor with the challenger and not with the champion."""
    return (
        row.below_floor and row.champion is not None and row.floor is not None and row.champion >= row.floor
    )


def dearer_errors(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """Errors do not cost significantly more than the champion's."""
    primary = evidence.primary
    if primary.p_inferior is None or primary.upper is None or primary.difference is None:
        return
    if primary.p_inferior <= rules.alpha and primary.upper.value < 0:
        yield Reason(
            effect="FAIL",
            rule="cost",
            subject=primary.metric,
            text=f"the challenger's errors cost {amount(-primary.difference, primary.unit)} more than the "
            f"champion's ({amount(primary.challenger, primary.unit)} against "
            f"{amount(primary.champion, primary.unit)}, p = {probability(primary.p_inferior)} at "
            f"{rules.alpha:g}).",
        )


def constant_answer(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """The challenger learned to tell images apart."""
    if evidence.constant_prediction is not None and not evidence.present_classes < 2:
        yield Reason(
            effect="FAIL",
            rule="constant",
            subject=evidence.constant_prediction,
            text=f"the challenger answers {evidence.constant_prediction!r} to all {evidence.rows} holdout images: "
            "it learned nothing, look at its training curves.",
        )


def _called(row: SliceRow) -> str:
    if row.column is None:
        return "the whole holdout"
    return f"{row.column} {row.value}" + (f" outside batch {row.outside}" if row.outside else "")
