"""What a reader of a verdict should know beside its reasons."""

from collections.abc import Iterator

from visionops_assets.config.gate_rules import BATCH_SLICE, GateRules
from visionops_assets.evaluation.between import in_words
from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.phrases import percent, retract_command
from visionops_assets.evaluation.refusals import champion_holds
from visionops_assets.evaluation.verdict import Evidence, Reason

_SLICES_NAMED = 8


def came_between(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """What to blame where the challenger fails and the champion does not."""
    if any(champion_holds(row) or row.regressed for row in evidence.slices):
        between = context.between
        subject = ", ".join(f"batch={each.batch}" for each in between.batches) if between else ""
        yield _note("between", subject or "training", in_words(between, context))


def suspect_batches(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
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


def floor_exceptions(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """Batches with a floor of their own, and why."""
    for batch, exception in sorted(rules.floors.batches.items()):
        yield _note(
            "floor_exception",
            f"batch={batch}",
            f"batch {batch} has a floor of its own, {percent(exception.floor)}: {exception.reason}",
        )


def absent_classes(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
    """Classes that nobody could judge."""
    if evidence.absent_classes:
        names = ", ".join(evidence.absent_classes)
        yield _note("absent_class", names, f"not judged, because the holdout has no image of it: {names}.")


def slices_not_tested(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
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


def approximations(evidence: Evidence, rules: GateRules, context: JudgementContext) -> Iterator[Reason]:
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
