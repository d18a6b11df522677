"""The rules of the gate, each from evidence to a sentence or nothing: what refuses a challenger (FAIL), what leaves
it unproven (INSUFFICIENT), and what a reader should know beside that.
"""

import math
from collections.abc import Iterator

from visionops_assets.common.error_levels import labels_to_collect
from visionops_assets.config.gate_rules import BATCH_SLICE, GateRules
from visionops_assets.evaluation.context import GateContext
from visionops_assets.evaluation.run_records import between_in_words
from visionops_assets.evaluation.slices import empty_critical_slices
from visionops_assets.evaluation.verdict import Evidence, Reason, SliceRow
from visionops_assets.evaluation.verdict_wording import (
    amount,
    bound_in_words,
    counts,
    loss_found_in_words,
    models,
    percent,
    points,
    points_tolerated,
    probability,
    retract_command,
)

_DECLARE_GROUPS = (
    "Images of one group are one piece of evidence: declare finer groups (session, day or part), or none where images "
    "are independent of each other."
)
_SLICES_NAMED = 8


def leakage(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
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


def unknown_training_data(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """Somebody knows what the challenger was trained on, or the project takes a person's word."""
    foreign = context.foreign
    if foreign is None or foreign.unseen_because is None or rules.foreign_models == "allow":
        return
    yield Reason(
        effect="FAIL",
        rule="foreign_models",
        subject="training data",
        text=f"training data unknown: {_says(context)}, and nothing here can check it. With "
        "`gate.foreign_models: allow` the project takes a person's word for it; with --trained-on the dataset version "
        "is checked.",
    )


def made_elsewhere(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """On whose word the verdict rests, and that nobody can make the model again."""
    if context.foreign is not None:
        yield _note("foreign_models", "challenger", f"not reproducible, made elsewhere: {_says(context)}.")


def _says(context: GateContext) -> str:
    """Who says what of a foreign file."""
    foreign = context.foreign
    assert foreign is not None
    said = f"{foreign.said_by} says that {foreign.file} ({foreign.file_sha256[:12]})"
    if foreign.unseen_because is not None:
        return f"{said} has seen no holdout image, because {foreign.unseen_because!r}"
    return f"{said} was trained on the dataset version that its run names"


def floors(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
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


def regressions(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
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


def dearer_errors(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
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


def constant_answer(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
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


def unchanged(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """The challenger is another model than the champion."""
    if context.unchanged:
        yield _doubt("unchanged", "challenger", "the challenger is the champion itself: nothing changes.")


def small_holdout(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """The holdout has the images the gate asks for."""
    if evidence.rows < rules.min_holdout:
        labels = labels_to_collect(rules.min_holdout, evidence.rows, context.holdout_share)
        more = f" That takes about {labels:,} more labels." if labels is not None else ""
        yield _doubt(
            "min_holdout",
            "holdout",
            f"the holdout has {evidence.rows} images, the gate asks for at least {rules.min_holdout}.{more}",
        )


def uniform_holdout(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
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


def critical_slices(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
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


def non_inferiority(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
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


def superiority(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
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


def came_between(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """What to blame where the challenger fails and the champion does not."""
    if any(champion_holds(row) or row.regressed for row in evidence.slices):
        between = context.between
        subject = ", ".join(f"batch={each.batch}" for each in between.batches) if between else ""
        yield _note("between", subject or "training", between_in_words(between, context))


def suspect_batches(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """Batches whose labels to look at first."""
    floored = {row.value for row in evidence.slices if row.below_floor and row.column == BATCH_SLICE}
    who = "champion" if context.champion is not None else "challenger"
    for suspect in evidence.suspects:
        if suspect.batch in floored:
            continue
        detail = f" ({suspect.confusion})" if suspect.confusion else ""
        yield _note(
            "suspect_batch",
            f"batch={suspect.batch}",
            f"look at the labels of batch {suspect.batch} first: the {who} agrees with {percent(suspect.agreement)} "
            f"of them, and with {percent(suspect.elsewhere)} elsewhere{detail}. If they are wrong: "
            f"`{retract_command(context.project, suspect.batch)}`",
        )


def floor_exceptions(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """Batches with a floor of their own, and why."""
    for batch, exception in sorted(rules.floors.batches.items()):
        yield _note(
            "floor_exception",
            f"batch={batch}",
            f"batch {batch} has a floor of its own, {percent(exception.floor)}: {exception.reason}",
        )


def absent_classes(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """Classes that nobody could judge."""
    if evidence.absent_classes:
        names = ", ".join(evidence.absent_classes)
        yield _note("absent_class", names, f"not judged, because the holdout has no image of it: {names}.")


def slices_not_tested(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """Slices of too few images to tell a loss."""
    few = [row for row in evidence.slices if row.champion is not None and row.p_worse is None]
    if few and not context.unchanged:
        named = ", ".join(f"{row.name()} ({row.rows})" for row in few[:_SLICES_NAMED])
        more = f" and {len(few) - _SLICES_NAMED} more" if len(few) > _SLICES_NAMED else ""
        yield _note(
            "not_tested",
            few[0].name(),
            f"not tested for a loss, because they have fewer than {rules.regressions.min_samples} holdout images: "
            f"{named}{more}.",
        )


def approximations(evidence: Evidence, rules: GateRules, context: GateContext) -> Iterator[Reason]:
    """Where an interval is not the bootstrap's."""
    bounds = (evidence.primary.lower, evidence.primary.claim, *(row.lower for row in evidence.slices))
    if any(bound is not None and bound.method == "normal" for bound in bounds):
        yield _note(
            "normal_approximation",
            "interval",
            f"{rules.bootstrap.draws:,} draws do not resolve every level used here: where the bootstrap cannot "
            "answer, the bound is the normal approximation on group sums.",
        )


def _note(rule: str, subject: str, text: str) -> Reason:
    return Reason(effect="NOTE", rule=rule, subject=subject, text=text)
