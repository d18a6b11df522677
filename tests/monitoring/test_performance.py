"""Performance is counted where labels exist, estimated elsewhere, and never invented."""

from collections.abc import Callable

import numpy as np
import production as simulated
import pytest
from production import Production, blur_and_darkness

from visionops_assets.monitoring.classification import realised_accuracy
from visionops_assets.monitoring.detection import realised_precision
from visionops_assets.monitoring.performance import (
    AccuracyEstimator,
    accuracy_estimator,
    performance_of_day,
)

DIGITS = tuple("0123456789")
Count = Callable[[int, int], int]


@pytest.fixture(scope="module")
def digits() -> Production:
    return simulated.digits()


@pytest.fixture(scope="module")
def parts() -> Production:
    return simulated.parts()


def test_the_estimate_brackets_what_labels_show_as_often_as_stated(count: Count, digits: Production):
    splits = [digits, *(simulated.digits(seed) for seed in range(1, count(1, 20)))]
    bracketed, errors = [], []
    for world in splits:
        estimator = accuracy_estimator([world.reference()])
        assert estimator is not None
        for seed in range(20):
            day = world.day(200, seed)
            found, truth = estimator.estimate(day["confidence"].to_numpy()), realised_accuracy(day).value
            assert found is not None
            bracketed.append(found.lower <= truth <= found.upper)
            errors.append(found.value - truth)
    tolerance = 3 * np.sqrt(len(bracketed) * 0.95 * 0.05)
    assert sum(bracketed) >= 0.95 * len(bracketed) - tolerance
    assert abs(np.mean(errors)) < 0.02


def test_the_calibration_is_scikit_learns():
    from sklearn.isotonic import IsotonicRegression

    random = np.random.default_rng(0)
    confidence = random.beta(8, 1, 225).round(2)
    right = random.random(225) < confidence
    theirs = IsotonicRegression(y_min=1 / 227, y_max=1 - 1 / 227, out_of_bounds="clip")
    theirs.fit(confidence, right.astype(float))
    asked = np.linspace(0, 1, 500)
    ours = AccuracyEstimator(confidence, right).calibrated(asked)
    assert ours == pytest.approx(theirs.predict(asked), abs=1e-9)


def test_calibration_on_training_rows_would_flatter(digits: Production):
    """Why the reference is the holdout: an estimate calibrated where the model is always right sees no error."""
    reference = digits.reference()
    day = digits.day(200, 0)
    flattered = AccuracyEstimator(reference["confidence"].to_numpy(), np.ones(len(reference), bool))
    found = flattered.estimate(day["confidence"].to_numpy())
    assert found is not None
    assert found.value > 0.99 > realised_accuracy(day).value


def test_an_estimate_below_the_floor_is_seen_when_the_camera_fails(digits: Production):
    estimator = accuracy_estimator([digits.reference()])
    unlabelled = digits.day(200, 0, shift=blur_and_darkness).assign(label=None)
    found = performance_of_day(unlabelled, "classification", DIGITS, estimator, 50)
    assert found.realised is None
    assert found.below(0.85)
    assert not performance_of_day(digits.day(200, 0), "classification", DIGITS, estimator, 50).below(0.85)


def test_labels_come_before_the_estimate(digits: Production):
    estimator = accuracy_estimator([digits.reference()])
    day = digits.day(200, 0)
    partly = day.assign(label=day["label"].where(np.arange(200) < 60))
    found = performance_of_day(partly, "classification", DIGITS, estimator, 50)
    assert found.known is found.realised
    assert found.realised is not None
    assert found.realised.rows == found.labelled == 60
    assert "counted on 60 labelled images" in found.sentence()
    few = performance_of_day(
        day.assign(label=day["label"].where(np.arange(200) < 49)), "classification", DIGITS, estimator, 50
    )
    assert few.realised is None
    assert few.known is few.estimated


def test_an_image_that_came_twice_is_one_piece_of_evidence(digits: Production):
    day = digits.day(80, 0)
    twice = day.loc[day.index.repeat(2)].reset_index(drop=True)
    once = performance_of_day(day, "classification", DIGITS, None, 50).realised
    assert performance_of_day(twice, "classification", DIGITS, None, 50).realised == once


def test_a_model_right_on_all_labels_is_not_surely_right(digits: Production):
    day = digits.day(60, 0)
    found = realised_accuracy(day.assign(label=day["prediction"]))
    assert (found.value, found.upper) == (1, 1)
    assert 0.9 < found.lower < 1


def test_labels_recalibrate_the_estimate(digits: Production):
    """After a shift that confidences do not show, labelled days bring the estimate to the truth."""
    reference = digits.reference()
    days = [digits.day(200, seed) for seed in range(2)]
    wrong = [day.assign(label=day["label"].where(np.arange(200) % 3 > 0, "?")) for day in days]
    before, after = accuracy_estimator([reference]), accuracy_estimator([reference, wrong[0]])
    assert before is not None and after is not None
    confidence = wrong[1]["confidence"].to_numpy()
    truth = realised_accuracy(wrong[1]).value
    old, new = before.estimate(confidence), after.estimate(confidence)
    assert old is not None and new is not None
    assert abs(new.value - truth) < abs(old.value - truth)


def test_too_few_rows_or_labels_give_no_number(digits: Production):
    reference = digits.reference()
    estimator = accuracy_estimator([reference])
    for rows in (0, 1, 49):
        found = performance_of_day(digits.day(200, 0).head(rows), "classification", DIGITS, estimator, 50)
        assert found.known is None
        assert found.below(0.85) is None
    assert "no number without labels" in found.sentence()
    assert accuracy_estimator([reference.head(29)]) is None
    assert accuracy_estimator([reference.assign(label=None)]) is None
    assert accuracy_estimator([]) is None
    with pytest.raises(ValueError, match="29 labelled rows calibrate no estimate"):
        AccuracyEstimator(np.full(29, 0.5), np.ones(29, bool))


def test_confidences_that_are_no_numbers_are_left_out(digits: Production):
    estimator = accuracy_estimator([digits.reference()])
    assert estimator is not None
    confidence = digits.day(200, 0)["confidence"].to_numpy().copy()
    clean = estimator.estimate(confidence[20:])
    confidence[:10], confidence[10:20] = np.nan, np.inf
    assert estimator.estimate(confidence) == clean
    assert estimator.estimate(np.full(5, np.nan)) is None


def test_a_detector_has_a_number_only_where_labels_exist(parts: Production):
    classes = simulated.PARTS
    day = parts.day(120, 0)
    found = performance_of_day(day, "detection", classes, None, 50)
    assert found.realised is not None
    assert found.realised.lower < found.realised.value < found.realised.upper
    unlabelled = performance_of_day(day.assign(label=None), "detection", classes, None, 50)
    assert unlabelled.known is None
    assert "no number without labels" in unlabelled.sentence()
    perfect = day.assign(boxes=[[{**box, "score": 1.0} for box in boxes] for boxes in day["label"]])
    best = realised_precision(perfect, classes)
    assert best is not None
    assert best.value == pytest.approx(1)
    nothing_there = day.assign(label=[[] for _ in range(len(day))])
    assert realised_precision(nothing_there, classes) is None
