"""Point values are those of scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from visionops_assets.config.gate_rules import Costs
from visionops_assets.evaluation.classification import accuracy, confusion_matrix, error_costs

CLASSES = ("bolt", "nut", "screw", "washer")


@pytest.fixture(params=range(5))
def answered(request: pytest.FixtureRequest) -> tuple[pd.Series, pd.Series]:
    rng = np.random.default_rng(request.param)
    labels = rng.choice(CLASSES, 400, p=[0.5, 0.3, 0.15, 0.05])
    answers = np.where(rng.random(400) < 0.7, labels, rng.choice(CLASSES, 400))
    return pd.Series(labels), pd.Series(answers)


def test_metrics_equal_scikit_learn(answered: tuple[pd.Series, pd.Series]) -> None:
    labels, answers = answered
    assert accuracy(labels, answers) == sklearn_metrics.accuracy_score(labels, answers)
    confusion = confusion_matrix(labels, answers, CLASSES)
    expected = sklearn_metrics.confusion_matrix(labels, answers, labels=list(CLASSES))
    np.testing.assert_array_equal(confusion.to_numpy(), expected)


def test_expected_cost_is_the_confusion_matrix_weighted(answered: tuple[pd.Series, pd.Series]) -> None:
    labels, answers = answered
    costs = Costs(unit="EUR", matrix={"bolt": {"nut": 50, "bolt": 0.5}, "nut": {"bolt": 3}}, otherwise=1)
    prices = np.array([[costs.of(true, said) for said in CLASSES] for true in CLASSES])
    confusion = sklearn_metrics.confusion_matrix(labels, answers, labels=list(CLASSES))
    assert error_costs(labels, answers, costs).mean() == pytest.approx(
        (confusion * prices).sum() / len(labels)
    )


def test_what_cannot_be_counted_is_named() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        accuracy([], [])
    with pytest.raises(ValueError, match="label 'gear' is none of the classes"):
        confusion_matrix(["gear"], ["bolt"], CLASSES)
    with pytest.raises(ValueError, match="prediction 'gear' is none of the classes"):
        confusion_matrix(["bolt"], ["gear"], CLASSES)
