"""What cannot be judged ends in a clear verdict, never in a promotion."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from holdouts import context, discordant, labels_in_turn, table

from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.verdict_wording import verdict_page, verdict_summary

LABELS = labels_in_turn(300)
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


def good_predictions() -> pd.DataFrame:
    return table(LABELS, *discordant(300, 40, 2))


def put(column: str, value: object, row: int = 7) -> Spoil:
    def spoil(predictions: pd.DataFrame) -> pd.DataFrame:
        values = list(predictions[column])
        values[row] = value
        return predictions.assign(**{column: pd.Series(values, dtype=object)})

    return spoil


def verdict_on(predictions: pd.DataFrame, rules: GateRules | None = None, **changes: object) -> Verdict:
    return gate_verdict(predictions, rules or GateRules(), context=context(predictions, **changes))


def test_the_unspoilt_table_passes() -> None:
    assert verdict_on(good_predictions()).verdict == "PASS"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (put("challenger_probabilities", np.array([np.nan, 0.5, 0.5])), "000007.png are not finite"),
        (put("champion_probabilities", np.array([np.inf, 0, 0])), "the champion's probabilities"),
        (put("challenger_probabilities", np.array([3.0, -1.0, -1.0])), "scores before the softmax"),
        (put("challenger_probabilities", np.array([0.5, 0.2, 0.2])), "sum to 0.9, not to 1"),
        (put("challenger_probabilities", np.array([0.5, 0.5])), "number 2, where the other images have 3"),
        (put("challenger_probabilities", None), "number 0"),
        (put("challenger_prediction", None), "no prediction for batches/week-01/images/000007.png"),
        (
            put("challenger_confidence", np.nan),
            "confidence in batches/week-01/images/000007.png is not finite",
        ),
        (put("label", "gear"), "labelled 'gear', which is none of the classes"),
        (put("label", None), "labelled None"),
        (put("group", None), "has no group"),
        (put("path", "batches/week-01/images/000003.png"), "stands in the holdout twice"),
        (lambda t: t.drop(columns="challenger_confidence"), "no column 'challenger_confidence'"),
        (lambda t: t.drop(columns="champion_prediction"), "no column 'champion_prediction'"),
    ],
)
def test_an_unfit_table_fails_and_names_the_fault(spoil: Spoil, complaint: str) -> None:
    good = good_predictions()
    verdict = gate_verdict(spoil(good), GateRules(), context=context(good))
    assert verdict.verdict == "FAIL"
    assert complaint in " ".join(reason.text for reason in verdict.reasons)
    assert verdict.evidence is None
    assert Verdict.from_json(verdict.to_json()) == verdict
    assert "FAIL" in verdict_page(verdict).to_markdown()


def test_a_declared_slice_that_the_table_lacks_fails() -> None:
    verdict = verdict_on(good_predictions(), GateRules(slices=("camera",)))
    assert verdict.verdict == "FAIL"
    assert "'camera'" in verdict_summary(verdict)


def test_images_without_a_slice_value_are_a_slice_of_their_own() -> None:
    predictions = good_predictions().assign(camera=pd.Series(["left", None] * 150, dtype=object))
    verdict = verdict_on(predictions, GateRules(slices=("camera",)))
    assert verdict.evidence is not None
    assert "camera=(none)" in {row.name() for row in verdict.evidence.slices}


def test_an_empty_holdout_is_insufficient() -> None:
    verdict = verdict_on(good_predictions().head(0))
    assert verdict.verdict == "INSUFFICIENT"
    assert "no image" in verdict_summary(verdict)


def test_a_holdout_below_the_minimum_is_insufficient() -> None:
    verdict = verdict_on(good_predictions(), GateRules(min_holdout=301))
    assert verdict.verdict == "INSUFFICIENT"
    assert (
        "has 300 images, the gate asks for at least 301. That takes about 4 more labels."
        in verdict_summary(verdict)
    )


@pytest.mark.parametrize("with_champion", [True, False])
def test_a_holdout_of_one_class_is_insufficient(with_champion: bool) -> None:
    labels = ["nut"] * 300
    challenger, champion = discordant(300, 40, 2)
    verdict = verdict_on(table(labels, challenger, champion if with_champion else None))
    assert verdict.verdict == "INSUFFICIENT"
    assert "one class only, 'nut'" in " ".join(reason.text for reason in verdict.reasons)


@pytest.mark.parametrize("with_champion", [True, False])
def test_a_challenger_that_always_answers_alike_fails(with_champion: bool) -> None:
    labels = ["nut"] * 280 + ["bolt"] * 20
    right = np.array(labels) == "nut"
    champion = np.zeros(300, dtype=bool)
    predictions = table(labels, right, champion if with_champion else None)
    predictions["challenger_prediction"] = "nut"
    verdict = verdict_on(predictions)
    assert verdict.verdict == "FAIL"
    assert "answers 'nut' to all 300" in verdict_summary(verdict)


def test_a_holdout_of_one_group_is_insufficient() -> None:
    predictions = table(LABELS, *discordant(300, 40, 2), groups=["session"] * 300)
    verdict = verdict_on(predictions)
    assert verdict.verdict == "INSUFFICIENT"
    assert any(reason.rule == "single_group" for reason in verdict.reasons)
