"""All numbers of a verdict on a classifier, measured before anything is decided: what it got right, class by class,
and what its errors cost.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.config.gate_rules import Costs, GateRules
from visionops_assets.evaluation.context import GateContext, suspect_batches
from visionops_assets.evaluation.evaluation_task import Errors, EvaluationTask, Pixels, Said
from visionops_assets.evaluation.paired_difference import (
    DifferenceBounds,
    Floats,
    PairedDifference,
    paired_difference,
)
from visionops_assets.evaluation.significance import sign_flip, superiority_p_value
from visionops_assets.evaluation.slices import (
    Outcomes,
    absent_classes,
    compared,
    labels_needed,
    leaks_shown,
    no_worse_claim,
    slice_rows,
)
from visionops_assets.evaluation.verdict import Comparison, Evidence
from visionops_assets.inference.predictions import answer_columns, predictions_table, scores_of, table_faults
from visionops_assets.inference.shipped_model import ShippedModel
from visionops_assets.tasks.task_registry import CLASSIFICATION

ACCURACY = "accuracy"
COST = "expected cost"


def accuracy(labels: Sequence[str] | pd.Series, predictions: Sequence[str] | pd.Series) -> float:
    """Share of images whose predicted class is their label.

    Raises ValueError for no images: there is no accuracy of nothing.
    """
    correct = np.asarray(labels, dtype=object) == np.asarray(predictions, dtype=object)
    if correct.size == 0:
        raise ValueError("accuracy needs at least one image")
    return float(np.mean(correct))


def confusion_matrix(
    labels: Sequence[str] | pd.Series, predictions: Sequence[str] | pd.Series, classes: Sequence[str]
) -> pd.DataFrame:
    """Images by true class (rows) and predicted class (columns), int64, both in the order of `classes`.

    Raises ValueError naming a label or a prediction that is none of the classes.
    """
    rows = _codes(labels, classes, "label")
    columns = _codes(predictions, classes, "prediction")
    counts = np.bincount(rows * len(classes) + columns, minlength=len(classes) ** 2)
    return pd.DataFrame(
        counts.reshape(len(classes), len(classes)),
        index=pd.Index(classes, name="true"),
        columns=pd.Index(classes, name="predicted"),
    )


def error_costs(
    labels: Sequence[str] | pd.Series, predictions: Sequence[str] | pd.Series, costs: Costs
) -> NDArray[np.float64]:
    """What each image cost [rows], in `costs.unit`; their mean is the expected cost."""
    true_codes, true = pd.factorize(np.asarray(labels, dtype=object))
    said_codes, said = pd.factorize(np.asarray(predictions, dtype=object))
    prices = np.array([[costs.of(t, s) for s in said] for t in true], dtype=np.float64)
    return prices[true_codes, said_codes] if len(true_codes) else np.empty(0)


def _codes(names: Sequence[str] | pd.Series, classes: Sequence[str], what: str) -> NDArray[np.int64]:
    values = np.asarray(names, dtype=object)
    codes = pd.Index(classes).get_indexer(pd.Index(values))
    if (codes < 0).any():
        raise ValueError(f"the {what} {values[codes < 0][0]!r} is none of the classes {list(classes)}")
    return codes.astype(np.int64)


def measure_classification(predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> Evidence:
    """Measure a sound predictions table (`predictions.table_faults` found nothing) of at least one row."""
    groups = pd.factorize(predictions["group"])[0].astype(np.int64)
    labels, answers = predictions["label"], predictions["challenger_prediction"]
    right = (answers == labels).to_numpy(dtype=bool)
    champion_right = champion_answers = gain = needed = None
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
                compared(ACCURACY, "share", accuracies, accuracy_pair, rules, _bounds(accuracy_pair, rules))
            ]
        needed = labels_needed(gain, paired, rules, context)
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
        labels=needed,
        leak_count=len(context.leaks),
        leaks=leaks_shown(context.leaks),
        suspects=suspects,
        between=context.between,
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


def _compare_accuracy(
    values: Mapping[str, float],
    gain: Floats,
    paired: PairedDifference,
    rules: GateRules,
    context: GateContext,
) -> Comparison:
    wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
    bounds = _bounds(paired, rules)
    claims: dict[str, Any] = {
        "p_superior": superiority_p_value(wins, losses, paired, seed=rules.bootstrap.seed)
    }
    if rules.require == "non_inferior":
        claims |= no_worse_claim(paired, bounds, rules, context, dearest=1.0)
    return compared(ACCURACY, "share", values, paired, rules, bounds, wins=wins, losses=losses, **claims)


def _compare_costs(
    values: Mapping[str, float],
    paired: PairedDifference,
    rules: GateRules,
    costs: Costs,
    context: GateContext,
) -> Comparison:
    bounds = _bounds(paired, rules)
    found = bounds.at(context.level(rules))
    claims: dict[str, Any] = {
        "p_superior": sign_flip(paired.sums, seed=rules.bootstrap.seed),
        "p_inferior": sign_flip(-paired.sums, seed=rules.bootstrap.seed),
        "claim": found[0] if found else None,
    }
    if rules.require == "non_inferior":
        claims |= no_worse_claim(paired, bounds, rules, context, dearest=costs.dearest)
    return compared(COST, f"{costs.unit} per image", values, paired, rules, bounds, **claims)


class Classification(EvaluationTask):
    """One class an image."""

    name = CLASSIFICATION

    def run(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        return scores_of(shipped, batches)

    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        return predictions_table(holdout, challenger=challenger, champion=champion, slices=slices)

    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> list[str]:
        with_champion = context.champion is not None
        return table_faults(predictions, rules, classes=context.classes, with_champion=with_champion)

    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> Evidence:
        return measure_classification(predictions, rules, context)

    def opinion(self, answers: Any, sides: Sequence[tuple[int, int]]) -> pd.DataFrame:
        if not sides:
            return pd.DataFrame({"prediction": [], "confidence": []})
        names = np.asarray(answers.classes, dtype=object)
        best, confidence = answers.probabilities.argmax(axis=1), answers.probabilities.max(axis=1)
        return pd.DataFrame({"prediction": names[best], "confidence": confidence})

    def truth(self, row: pd.Series) -> Said:
        return Said(str(row["label"]))

    def answer_column(self, model: str) -> str:
        return answer_columns(model)[0]

    def errors(self, predictions: pd.DataFrame, model: str, least: float) -> Errors:
        prediction, confidence, _ = answer_columns(model)
        labels, answers = predictions["label"].tolist(), predictions[prediction].tolist()
        sure = pd.to_numeric(predictions[confidence], errors="coerce").fillna(0.0).to_numpy(np.float64)
        wrong = np.array([one != other for one, other in zip(labels, answers, strict=True)], np.float64)
        said = [
            Said(f"{answer} ({how:.2f})" if answer is not None else "no answer")
            for answer, how in zip(answers, sure.tolist(), strict=True)
        ]
        return Errors(wrong, sure, said)


TASK = Classification()
