"""What the gate says of two detectors, on holdouts made to order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from detected import CLASSES, answers, context, table, truths

from visionops_assets.common.error_levels import level_left
from visionops_assets.config.gate_rules import Bootstrap, Floors, GateRules
from visionops_assets.evaluation.detection import DetectionHoldout
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.paired_difference import PrecisionPair, normal_bounds
from visionops_assets.evaluation.verdict import SliceRow, Verdict
from visionops_assets.evaluation.verdict_wording import verdict_page, verdict_summary
from visionops_assets.inference.predictions import holdout_digest

RULES = GateRules(bootstrap=Bootstrap(draws=1000), object_sizes=(16, 24))
IMAGES = 150


def judged(
    challenger: Any = 0.9, champion: Any = 0.9, rules: GateRules = RULES, seed: int = 0, **told: Any
) -> Verdict:
    rng = np.random.default_rng(seed)
    images = truths(IMAGES, rng)
    batches = told.pop("batches", None)
    said = [answers(images, rng, recall=recall) for recall in (challenger, champion)]
    predictions = table(images, *said, batches=batches)
    return gate_verdict(predictions, rules, context=context(predictions, **told))


def slices_of(verdict: Verdict) -> dict[str, SliceRow]:
    assert verdict.evidence is not None
    return {row.name(): row for row in verdict.evidence.slices}


@pytest.mark.slow
def test_a_clearly_better_detector_passes_and_the_reverse_fails() -> None:
    better = judged(0.95, 0.7)
    assert better.verdict == "PASS", verdict_summary(better)
    assert "mAP@0.5" in verdict_summary(better)
    assert better.evidence is not None and better.evidence.primary.claim is not None
    assert better.evidence.primary.claim.value > 0
    worse = judged(0.7, 0.95)
    assert worse.verdict == "FAIL"
    assert "overall" in {reason.subject for reason in worse.reasons}


def test_equal_detectors_are_insufficient_and_the_verdict_says_how_many_labels_it_takes() -> None:
    verdict = judged()
    assert verdict.verdict == "INSUFFICIENT", verdict_summary(verdict)
    assert verdict.evidence is not None and verdict.evidence.labels is not None
    assert (verdict.evidence.labels.labels_to_collect or 0) > 0
    assert "more labels" in verdict_page(verdict).to_markdown()


def test_a_model_against_itself_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    images = truths(60, rng)
    said = answers(images, rng)
    predictions = table(images, said, said)
    told = context(predictions)
    same = gate_verdict(predictions, RULES, context=context(predictions, challenger=told.champion))
    assert same.verdict == "INSUFFICIENT"
    assert {reason.rule for reason in same.reasons} == {"unchanged"}
    twin = gate_verdict(predictions, RULES, context=told)
    assert twin.evidence is not None and twin.evidence.primary.p_superior == 1.0
    assert twin.verdict == "INSUFFICIENT"


def test_slices_are_classes_batches_object_sizes_and_declared_columns() -> None:
    weeks = ["week-01"] * 75 + ["week-02"] * 75
    rows = slices_of(judged(batches=weeks))
    assert list(rows) == [
        "overall",
        *(f"class={name}" for name in CLASSES),
        "batch=week-01",
        "batch=week-02",
        *(f"object_size={size}" for size in ("small", "medium", "large")),
    ]
    assert rows["overall"].challenger == pytest.approx(
        np.mean([rows[f"class={name}"].challenger for name in CLASSES])
    )
    assert {rows["class=nut"].metric, rows["batch=week-01"].metric} == {"AP@0.5", "mAP@0.5"}
    assert (rows["batch=week-01"].rows, rows["batch=week-01"].wins) == (75, None)


def test_a_batch_with_shifted_boxes_is_below_its_floor_and_suspected_by_name() -> None:
    rng = np.random.default_rng(1)
    images = truths(IMAGES, rng)
    said = [answers(images, rng, recall=recall) for recall in (0.95, 0.95)]
    shifted = [
        [{**box, "x": box["x"] + 10.0, "y": box["y"] + 10.0} for box in boxes] if image >= 100 else boxes
        for image, boxes in enumerate(images)
    ]
    weeks = ["week-01"] * 100 + ["week-02"] * 50
    predictions = table(shifted, *said, batches=weeks)
    verdict = gate_verdict(predictions, RULES, context=context(predictions))
    assert verdict.verdict == "FAIL"
    assert verdict.reasons[0].rule == "floor" and verdict.reasons[0].subject == "batch=week-02"
    assert "visionops retract parts week-02" in verdict_page(verdict).to_markdown()
    assert verdict.evidence is not None
    assert [suspect.batch for suspect in verdict.evidence.suspects] == ["week-02"]
    strict = RULES.model_copy(update={"floors": Floors(overall=0.9, batch=0.6, slices={"class": 0.9})})
    named = gate_verdict(predictions, strict, context=context(predictions))
    assert {reason.subject for reason in named.reasons} >= {"overall", "class=nut"}
    assert verdict_summary(named).startswith("FAIL: Batch week-02: mAP@0.5")
    lenient = RULES.model_copy(update={"floors": Floors(overall=0, batch=0)})
    noted = gate_verdict(predictions, lenient, context=context(predictions))
    assert "Look at the labels of batch week-02 first" in verdict_page(noted).to_markdown()


def test_one_hurt_class_fails_a_detector_that_is_better_elsewhere() -> None:
    rng = np.random.default_rng(2)
    images = truths(300, rng)
    champion = answers(images, rng, recall=0.8)
    challenger = [
        [box for box in boxes if box["label"] != "nut" or rng.random() < 0.6]
        for boxes in answers(images, rng, recall=0.95)
    ]
    predictions = table(images, challenger, champion)
    verdict = gate_verdict(predictions, RULES, context=context(predictions))
    assert verdict.verdict == "FAIL"
    assert verdict.reasons[0].subject == "class=nut"
    assert "AP@0.5" in verdict.reasons[0].text


def test_a_critical_object_size_must_be_shown_to_be_no_worse() -> None:
    rules = RULES.model_copy(
        update={"critical_slices": ("object_size=small",), "require": "non_inferior", "min_improvement": 0.1}
    )
    verdict = judged(0.95, 0.8, rules)
    small = slices_of(verdict)["object_size=small"]
    assert small.critical and small.lower is not None
    assert verdict.verdict == "PASS", verdict_summary(verdict)


def test_the_first_champion_needs_the_floors_alone() -> None:
    rng = np.random.default_rng(0)
    images = truths(IMAGES, rng)
    predictions = table(images, answers(images, rng))
    assert gate_verdict(predictions, RULES, context=context(predictions)).verdict == "PASS"
    poor = table(images, answers(images, rng, recall=0.3))
    assert gate_verdict(poor, RULES, context=context(poor)).verdict == "FAIL"


def broken(change: Callable[[dict[str, Any]], Any]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def alter(predictions: pd.DataFrame) -> pd.DataFrame:
        boxes = [list(row) for row in predictions["challenger_boxes"]]
        place = next(number for number, row in enumerate(boxes) if row)
        boxes[place][0] = {**boxes[place][0], **change(boxes[place][0])}
        return predictions.assign(challenger_boxes=pd.Series(boxes, dtype=object))

    return alter


@pytest.mark.parametrize(
    ("alter", "complaint"),
    [
        (broken(lambda box: {"score": np.nan}), "a box whose numbers are not finite"),
        (broken(lambda box: {"x": np.inf}), "a box whose numbers are not finite"),
        (broken(lambda box: {"w": -1.0}), "a box of negative width or height"),
        (broken(lambda box: {"score": 1.5}), "a score outside 0 to 1"),
        (lambda rows: rows.drop(columns="champion_boxes"), "no column 'champion_boxes'"),
        (lambda rows: rows.assign(challenger_boxes=None), "gives no answer for"),
        (lambda rows: rows.assign(group=None), "has no group"),
    ],
)
def test_a_table_that_cannot_be_measured_fails_by_name(
    alter: Callable[[pd.DataFrame], pd.DataFrame], complaint: str
) -> None:
    rng = np.random.default_rng(0)
    images = truths(20, rng)
    predictions = table(images, answers(images, rng), answers(images, rng))
    told = context(predictions)
    verdict = gate_verdict(alter(predictions), RULES, context=told)
    assert verdict.verdict == "FAIL"
    assert complaint in verdict_summary(verdict)


@pytest.mark.parametrize(("said", "words"), [([], "no boxes"), ("same", "the same boxes")])
def test_a_detector_that_says_the_same_of_every_image_fails(said: Any, words: str) -> None:
    rng = np.random.default_rng(0)
    images = truths(40, rng)
    box = {"x": 1.0, "y": 1.0, "w": 9.0, "h": 9.0, "label": "nut", "score": 0.5}
    predictions = table(images, [[box] if said == "same" else [] for _ in images])
    verdict = gate_verdict(predictions, RULES, context=context(predictions))
    assert verdict.verdict == "FAIL"
    assert any(words in reason.text for reason in verdict.reasons if reason.rule == "constant")


def test_the_linear_part_has_the_spread_of_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    images = truths(200, rng)
    predictions = table(images, answers(images, rng, recall=0.9), answers(images, rng, recall=0.8))
    holdout = DetectionHoldout(predictions, CLASSES)
    ours, theirs = (holdout.matched(model).at(0.5) for model in ("challenger", "champion"))
    pair = PrecisionPair([ours], [theirs], np.ones(200, bool), np.arange(200))
    linear = pair.linear()
    (delta,) = pair.differences(np.ones((1, 200)))
    assert linear.mean == pytest.approx(delta, abs=1e-12)
    error = np.sqrt(np.square(linear.residuals).sum()) / 200
    assert error == pytest.approx(pair.drawn(2000, 0).std(), rel=0.08)


def test_images_of_one_group_are_one_piece_of_evidence() -> None:
    rng = np.random.default_rng(4)
    images = truths(40, rng)
    said = [answers(images, rng, recall=recall) for recall in (0.9, 0.8)]
    five = [[boxes for boxes in part for _ in range(5)] for part in (images, *said)]
    groups = [f"session-{number // 5}" for number in range(200)]
    alone, grouped = table(images, *said), table(*five, groups=groups)
    verdicts = [gate_verdict(rows, RULES, context=context(rows)) for rows in (alone, grouped)]
    first, second = (verdict.evidence.primary for verdict in verdicts if verdict.evidence is not None)
    assert second.difference == pytest.approx(first.difference, abs=0.02)
    assert first.p_superior is not None and second.p_superior is not None
    assert second.p_superior == pytest.approx(first.p_superior, abs=0.05)


def test_the_holdout_digest_follows_the_boxes() -> None:
    rng = np.random.default_rng(0)
    images = truths(10, rng)
    rows = table(images, answers(images, rng))
    moved = [[{**box, "x": box["x"] + 0.5} for box in boxes] for boxes in images]
    assert holdout_digest(table(moved, answers(images, rng))) != holdout_digest(rows)
    turned = [boxes[::-1] for boxes in images]
    assert holdout_digest(table(turned, answers(images, rng))) == holdout_digest(rows)


def test_a_late_challenger_is_held_to_a_bound_far_in_the_tail() -> None:
    early, late = (judged(0.95, 0.8, k=k) for k in (1, 10))
    assert late.evidence is not None and early.evidence is not None
    first, claim = early.evidence.primary.claim, late.evidence.primary.claim
    assert first is not None and claim is not None
    assert (claim.method, claim.level) == ("normal", pytest.approx(0.05 / 110))
    assert claim.value < first.value
    assert "normal_approximation" in {reason.rule for reason in late.reasons}


def test_the_bound_for_late_tries_is_the_quantile_of_many_draws() -> None:
    """Where the gate's own draws end: the tenth try is tested at 0.00045, of which 1,000 draws show nothing."""
    rng = np.random.default_rng(6)
    images = truths(IMAGES, rng)
    said = [answers(images, rng, recall=recall) for recall in (0.9, 0.8)]
    holdout = DetectionHoldout(table(images, *said), CLASSES)
    ours, theirs = (holdout.matched(model).at(0.5) for model in ("challenger", "champion"))
    pair = PrecisionPair([ours], [theirs], np.ones(IMAGES, bool), np.arange(IMAGES))
    drawn, linear = pair.drawn(20_000, 0), pair.linear()
    for k in (2, 4, 10):
        level = level_left(0.05, k)
        bound = normal_bounds(linear, level)[0].value
        # A tenth of a standard error or two: as far as nine draws beyond the last level can tell.
        assert bound == pytest.approx(np.quantile(drawn, level), abs=0.3 * drawn.std())


def no_box(images: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    return [[] for _ in images]


def one_class(images: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    return [[{**box, "label": "nut"} for box in boxes] for boxes in images]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rules", "told", "rule"),
    [
        ({"min_holdout": 41}, {}, "min_holdout"),
        ({}, {"groups": ["session"] * 40}, "single_group"),
        ({"critical_slices": ("camera=left",)}, {}, "critical_slice"),
        ({}, {"change": one_class}, "single_class"),
    ],
)
@pytest.mark.parametrize("with_champion", [True, False])
def test_a_holdout_that_tells_nothing_is_insufficient(
    rules: dict[str, Any], told: dict[str, Any], rule: str, with_champion: bool
) -> None:
    told = dict(told)
    rng = np.random.default_rng(0)
    images = told.pop("change", list)(truths(40, rng))
    said = [answers(images, rng, recall=recall) for recall in (0.95, 0.8)]
    predictions = table(images, *said[: 1 + with_champion], **told)
    verdict = gate_verdict(predictions, RULES.model_copy(update=rules), context=context(predictions))
    assert verdict.verdict == "INSUFFICIENT", verdict_summary(verdict)
    assert rule in {reason.rule for reason in verdict.reasons}


def test_a_holdout_without_an_image_or_without_a_box_never_promotes() -> None:
    rng = np.random.default_rng(0)
    images = truths(40, rng)
    said = [answers(images, rng) for _ in range(2)]
    predictions, nothing = table(images, *said), table(no_box(images), *said)
    empty = gate_verdict(predictions.head(0), RULES, context=context(predictions))
    assert (empty.verdict, empty.reasons[0].text) == ("INSUFFICIENT", "the holdout has no image.")
    bare = gate_verdict(nothing, RULES, context=context(nothing))
    assert (bare.verdict, bare.reasons[0].text) == ("INSUFFICIENT", "the holdout has no box to find.")
