"""What the gate on detectors does on average: its level and its power, as docs/detection.md quotes them.

Tolerances are three standard errors of a binomial share.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from detected import CLASSES, answers, context, table, truths

from visionops_assets.common.error_levels import level_left
from visionops_assets.config.gate_rules import Bootstrap, GateRules
from visionops_assets.evaluation.detection import DetectionHoldout
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.images.box_metrics import mean_average_precisions

Count = Callable[[int, int], int]
RULES = GateRules(bootstrap=Bootstrap(draws=1000), object_sizes=(16, 24))
BETTER, WORSE = 0.9, 0.75


def pair(images: int, recalls: tuple[float, float], rng: np.random.Generator) -> pd.DataFrame:
    """The answers of challenger and champion, who find objects with these chances, on fresh images."""
    objects = truths(images, rng, objects=2)
    return table(objects, *(answers(objects, rng, recall=recall) for recall in recalls))


def judged(predictions: pd.DataFrame, rules: GateRules, k: int) -> Verdict:
    return gate_verdict(predictions, rules, context=context(predictions, k=k))


@pytest.mark.parametrize("k", [1, 10])
def test_equal_detectors_are_promoted_no_more_often_than_stated(count: Count, k: int) -> None:
    trials, level = count(8, 200), level_left(0.05, k)
    rng = np.random.default_rng(5)
    promoted = sum(judged(pair(60, (0.85, 0.85), rng), RULES, k).verdict == "PASS" for _ in range(trials))
    assert promoted <= trials * level + 3 * np.sqrt(trials * level * (1 - level))


@pytest.mark.slow
@pytest.mark.parametrize(("images", "other"), [(60, 1.0), (150, 0.2)])
def test_a_detector_that_is_no_worse_is_seldom_refused_for_a_slice(
    count: Count, images: int, other: float
) -> None:
    """Over all slices together; the second pair answers four images in five alike, where noise looks like a loss."""
    trials = count(8, 200)
    rng = np.random.default_rng(9)
    refused = 0
    for _ in range(trials):
        objects = truths(images, rng, objects=2)
        champion = answers(objects, rng, recall=0.9)
        anew = answers(objects, rng, recall=0.9)
        challenger = [new if rng.random() < other else old for old, new in zip(champion, anew, strict=True)]
        evidence = judged(table(objects, challenger, champion), RULES, 1).evidence
        assert evidence is not None
        refused += any(row.regressed for row in evidence.slices)
    assert refused <= trials * 0.05 + 3 * np.sqrt(trials * 0.05 * 0.95)


def test_a_class_within_its_tolerance_refuses_nothing(count: Count) -> None:
    """A true loss of two points of average precision on one class of some fifty images."""
    trials = count(6, 200)
    rng = np.random.default_rng(10)
    refused = 0
    for _ in range(trials):
        objects = truths(100, rng, objects=2)
        champion = answers(objects, rng, recall=0.9)
        anew = answers(objects, rng, recall=0.9)
        challenger = [
            [
                box
                for box in (new if rng.random() < 0.3 else old)
                if box["label"] != "nut" or rng.random() > 0.025
            ]
            for old, new in zip(champion, anew, strict=True)
        ]
        evidence = judged(table(objects, challenger, champion), RULES, 1).evidence
        assert evidence is not None
        refused += any(row.regressed for row in evidence.slices)
    assert refused <= trials * 0.05 + 3 * np.sqrt(trials * 0.05 * 0.95)


@pytest.fixture(scope="module")
def true_gain() -> float:
    """The difference in mAP@0.5 of the better and the worse detector, on images without end."""
    images = 3000
    holdout = DetectionHoldout(pair(images, (BETTER, WORSE), np.random.default_rng(0)), CLASSES)
    once = np.ones((1, images))
    better, worse = (
        float(mean_average_precisions([holdout.matched(model).at(0.5)], once)[0])
        for model in ("challenger", "champion")
    )
    return better - worse


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, pytest.param(2, marks=pytest.mark.stated), 10])
def test_the_labels_asked_for_give_the_power_promised(count: Count, true_gain: float, k: int) -> None:
    """What an INSUFFICIENT on few images asks for shows a gain of `min_improvement` four times in five."""
    trials = count(4, 100)
    rules = RULES.model_copy(update={"min_improvement": true_gain})
    rng = np.random.default_rng(7)
    asked = []
    for _ in range(count(4, 20)):
        evidence = judged(pair(40, (WORSE, WORSE), rng), rules, k).evidence
        assert evidence is not None and evidence.labels is not None
        assert evidence.labels.rows_needed is not None
        asked.append(evidence.labels.rows_needed)
    images = int(np.median(asked))
    assert images > 40
    promoted = sum(
        judged(pair(images, (BETTER, WORSE), rng), rules, k).verdict == "PASS" for _ in range(trials)
    )
    assert promoted >= trials * 0.75 - 3 * np.sqrt(trials * 0.75 * 0.25)
