"""All numbers of a verdict on a classifier, measured before anything is decided."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.intervals import DifferenceBounds
from visionops_assets.evaluation.metrics import error_costs
from visionops_assets.evaluation.paired import Floats, PairedDifference, paired_difference, spread
from visionops_assets.evaluation.power import labels_to_collect, rows_for_no_loss, rows_needed
from visionops_assets.evaluation.rules import Costs, GateRules
from visionops_assets.evaluation.significance import better, least_losses, sign_flip
from visionops_assets.evaluation.slices import Outcomes, absent_classes, slice_rows
from visionops_assets.evaluation.suspects import suspect_batches
from visionops_assets.evaluation.verdict import Comparison, Evidence, LabelsNeeded, Leak

ACCURACY = "accuracy"
COST = "expected cost"
# Enough to see the pattern; the table of all leaks is the caller's.
_LEAKS_SHOWN = 20


def measure(predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> Evidence:
    """Measure a sound predictions table (`faults.table_faults` found nothing) of at least one row."""
    groups = pd.factorize(predictions["group"])[0].astype(np.int64)
    labels, answers = predictions["label"], predictions["challenger_prediction"]
    right = (answers == labels).to_numpy(dtype=bool)
    champion_right = champion_answers = gain = labels_needed = None
    primary = _alone(predictions, right, rules)
    guards: list[Comparison] = []
    if context.champion is not None:
        champion_answers = predictions["champion_prediction"]
        champion_right = (champion_answers == labels).to_numpy(dtype=bool)
        accuracy_gain = right.astype(np.float64) - champion_right
        accuracy_pair = paired_difference(accuracy_gain, groups)
        accuracies = {"challenger": float(right.mean()), "champion": float(champion_right.mean())}
        if rules.costs is None:
            gain, paired = accuracy_gain, accuracy_pair
            primary = _compare_accuracy(accuracies, gain, paired, rules, context)
        else:
            theirs = error_costs(labels, champion_answers, rules.costs)
            ours = error_costs(labels, answers, rules.costs)
            gain = theirs - ours
            paired = paired_difference(gain, groups)
            values = {"challenger": float(ours.mean()), "champion": float(theirs.mean())}
            primary = _compare_costs(values, paired, rules, rules.costs, context)
            guards = [
                _compared(ACCURACY, "share", accuracies, accuracy_pair, rules, _bounds(accuracy_pair, rules))
            ]
        labels_needed = _labels_needed(gain, paired, rules, context)
    suspects = suspect_batches(
        predictions,
        answers if champion_answers is None else champion_answers,
        right if champion_right is None else champion_right,
        min_samples=rules.floors.min_samples,
    )
    return Evidence(
        rows=len(predictions),
        groups=int(groups.max()) + 1,
        primary=primary,
        guards=guards,
        slices=slice_rows(
            predictions,
            Outcomes(groups, right, champion_right, gain),
            rules,
            classes=context.classes,
            holdout_share=context.holdout_share,
            suspects=[suspect.batch for suspect in suspects],
        ),
        labels=labels_needed,
        leak_count=len(context.leaks),
        leaks=[_leak(row) for row in context.leaks.head(_LEAKS_SHOWN).to_dict("records")],
        suspects=suspects,
        absent_classes=absent_classes(predictions, context.classes),
        present_classes=int(labels.nunique()),
        constant_prediction=str(answers.iloc[0]) if answers.nunique() == 1 else None,
    )


def _alone(predictions: pd.DataFrame, right: np.ndarray, rules: GateRules) -> Comparison:
    if rules.costs is None:
        return Comparison(metric=ACCURACY, unit="share", challenger=float(right.mean()))
    costs = error_costs(predictions["label"], predictions["challenger_prediction"], rules.costs)
    return Comparison(metric=COST, unit=f"{rules.costs.unit} per image", challenger=float(costs.mean()))


def _bounds(paired: PairedDifference, rules: GateRules) -> DifferenceBounds:
    return DifferenceBounds(paired, draws=rules.bootstrap.draws, seed=rules.bootstrap.seed)


def _compared(
    metric: str,
    unit: str,
    values: Mapping[str, float],
    paired: PairedDifference,
    rules: GateRules,
    bounds: DifferenceBounds,
    **claims: Any,
) -> Comparison:
    lower, upper = bounds.at(rules.alpha) or (None, None)
    return Comparison(
        metric=metric, unit=unit, difference=paired.mean, lower=lower, upper=upper, **values, **claims
    )


def _compare_accuracy(
    values: Mapping[str, float],
    gain: Floats,
    paired: PairedDifference,
    rules: GateRules,
    context: JudgementContext,
) -> Comparison:
    wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
    bounds = _bounds(paired, rules)
    claims: dict[str, Any] = {"p_superior": better(wins, losses, paired, seed=rules.bootstrap.seed)}
    if rules.require == "non_inferior":
        claims |= _no_worse_claim(paired, bounds, rules, context, dearest=1.0)
    return _compared(ACCURACY, "share", values, paired, rules, bounds, wins=wins, losses=losses, **claims)


def _compare_costs(
    values: Mapping[str, float],
    paired: PairedDifference,
    rules: GateRules,
    costs: Costs,
    context: JudgementContext,
) -> Comparison:
    bounds = _bounds(paired, rules)
    found = bounds.at(context.level(rules))
    claims: dict[str, Any] = {
        "p_superior": sign_flip(paired.sums, seed=rules.bootstrap.seed),
        "p_inferior": sign_flip(-paired.sums, seed=rules.bootstrap.seed),
        "claim": found[0] if found else None,
    }
    if rules.require == "non_inferior":
        claims |= _no_worse_claim(paired, bounds, rules, context, dearest=costs.dearest)
    return _compared(COST, f"{costs.unit} per image", values, paired, rules, bounds, **claims)


def _no_worse_claim(
    paired: PairedDifference,
    bounds: DifferenceBounds,
    rules: GateRules,
    context: JudgementContext,
    *,
    dearest: float,
) -> dict[str, Any]:
    found = bounds.at(context.level(rules))
    net_losses = -float(paired.sums.sum()) / dearest * paired.groups / paired.rows
    return {
        "claim": found[0] if found else None,
        "p_margin": least_losses(net_losses, paired.groups, rules.min_improvement / dearest),
    }


def _labels_needed(
    gain: Floats, paired: PairedDifference, rules: GateRules, context: JudgementContext
) -> LabelsNeeded:
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


def _leak(row: Mapping[Any, Any]) -> Leak:
    known = {str(name): value for name, value in row.items() if name in Leak.model_fields and pd.notna(value)}
    return Leak.model_validate(known)
