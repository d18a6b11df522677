"""What is claimed of a paired difference, whatever metric it is of: interval, non-inferiority, labels needed."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.intervals import DifferenceBounds
from visionops_assets.evaluation.paired import Floats, PairedDifference, spread
from visionops_assets.evaluation.power import labels_to_collect, rows_for_no_loss, rows_needed
from visionops_assets.evaluation.significance import least_losses
from visionops_assets.evaluation.verdict import Comparison, LabelsNeeded, Leak

# Enough to see the pattern; the table of all leaks is the caller's.
_LEAKS_SHOWN = 20


def compared(
    metric: str,
    unit: str,
    values: Mapping[str, float],
    paired: PairedDifference,
    rules: GateRules,
    bounds: DifferenceBounds,
    **claims: Any,
) -> Comparison:
    """Both models by one metric, with the two-sided interval of their difference at the protective level."""
    lower, upper = bounds.at(rules.alpha) or (None, None)
    return Comparison(
        metric=metric, unit=unit, difference=paired.mean, lower=lower, upper=upper, **values, **claims
    )


def no_worse_claim(
    paired: PairedDifference,
    bounds: DifferenceBounds,
    rules: GateRules,
    context: JudgementContext,
    *,
    dearest: float,
) -> dict[str, Any]:
    """The fields of a claim of non-inferiority; `dearest` is how far apart two answers for one image can be."""
    found = bounds.at(context.level(rules))
    net_losses = -float(paired.sums.sum()) / dearest * paired.groups / paired.rows
    return {
        "claim": found[0] if found else None,
        "p_margin": least_losses(net_losses, paired.groups, rules.min_improvement / dearest),
    }


def labels_needed(
    gain: Floats, paired: PairedDifference, rules: GateRules, context: JudgementContext
) -> LabelsNeeded:
    """How many labels the claim of this gate needs; `gain` is the difference per image."""
    level = context.level(rules)
    per_image = spread(gain, paired)
    needed = rows_needed(per_image, rules.min_improvement, level)
    if rules.require == "non_inferior":
        dearest = rules.costs.dearest if rules.costs else 1.0
        least = rows_for_no_loss(rules.min_improvement / dearest, level)
        needed = max(needed or 0, math.ceil(least * paired.rows / paired.groups))
    if needed is not None:
        needed = max(needed, rules.min_holdout)
    return LabelsNeeded(
        improvement=rules.min_improvement,
        level=level,
        spread=per_image,
        rows_now=paired.rows,
        rows_needed=needed,
        labels_to_collect=labels_to_collect(needed, paired.rows, context.holdout_share),
    )


def leaks_shown(leaks: pd.DataFrame) -> list[Leak]:
    """The first leaks, as evidence keeps them."""
    return [
        Leak.model_validate({str(name): value for name, value in row.items() if _is_field(name, value)})
        for row in leaks.head(_LEAKS_SHOWN).to_dict("records")
    ]


def _is_field(name: object, value: Any) -> bool:
    return name in Leak.model_fields and bool(pd.notna(value))
