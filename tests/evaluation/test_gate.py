"""What the gate says of two models, on holdouts made to order."""

import numpy as np
import pandas as pd
import pytest
from holdouts import CLASSES, answers, context, discordant, holdout, labels_in_turn, model, no_leaks, table
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from visionops_assets.config.gate_rules import BatchFloor, Bootstrap, Costs, Floors, GateRules
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.verdict_wording import verdict_page, verdict_summary
from visionops_assets.inference.predictions import predictions_table

SIZE = 600
LABELS = labels_in_turn(SIZE)
WEEKS = ["week-01"] * 300 + ["week-02"] * 300
RULES = GateRules(bootstrap=Bootstrap(draws=2000))


def judged(wins: int, losses: int, rules: GateRules = RULES, k: int = 1, both_wrong: int = 10) -> Verdict:
    challenger, champion = discordant(SIZE, wins, losses, both_wrong)
    predictions = table(LABELS, challenger, champion, batches=WEEKS)
    return gate_verdict(predictions, rules, context=context(predictions, k=k))


def rules_spoken(verdict: Verdict, effect: str | None = None) -> set[str]:
    return {reason.rule for reason in verdict.reasons if effect in (None, reason.effect)}


def test_a_clearly_better_challenger_passes() -> None:
    verdict = judged(40, 5)
    assert verdict.verdict == "PASS"
    assert verdict.may_promote()
    assert verdict.evidence is not None
    primary = verdict.evidence.primary
    assert (primary.wins, primary.losses) == (40, 5)
    assert primary.difference == pytest.approx(35 / SIZE)
    assert primary.p_superior == stats.binomtest(40, 45, 0.5, alternative="greater").pvalue
    assert "40 images won, 5 lost" in verdict_summary(verdict)


@settings(max_examples=40, deadline=None)
@given(wins=st.integers(0, 60), losses=st.integers(0, 60), wrong=st.integers(0, 150), k=st.integers(1, 12))
def test_a_pass_means_that_every_condition_holds(wins: int, losses: int, wrong: int, k: int) -> None:
    floors = Floors(overall=0.8, batch=0.75)
    rules = GateRules(floors=floors, bootstrap=Bootstrap(draws=1000))
    verdict = judged(wins, losses, rules, k, both_wrong=wrong)
    p = stats.binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue if wins + losses else 1.0
    evidence = verdict.evidence
    assert evidence is not None and evidence.primary.lower is not None
    conditions = (
        p <= 0.05 / (k * (k + 1)),
        evidence.primary.lower.value >= -rules.min_improvement,
        not any(row.regressed for row in evidence.slices),
        evidence.primary.challenger >= floors.overall,
        all(row.challenger >= floors.batch for row in evidence.slices if row.column == "batch"),
    )
    assert (verdict.verdict == "PASS") == all(conditions)


def test_a_what_if_never_promotes() -> None:
    challenger, champion = discordant(SIZE, 40, 5)
    predictions = table(LABELS, challenger, champion)
    verdict = gate_verdict(predictions, RULES, context=context(predictions, kind="what_if"))
    assert verdict.verdict == "PASS"
    assert not verdict.may_promote()


def test_noise_is_insufficient_and_says_how_many_labels_it_takes() -> None:
    verdict = judged(9, 7)
    assert verdict.verdict == "INSUFFICIENT"
    assert rules_spoken(verdict, "INSUFFICIENT") == {"superior"}
    assert verdict.evidence is not None
    labels = verdict.evidence.labels
    assert labels is not None and labels.rows_needed is not None
    needed = (1.959964 + 0.841621) ** 2 * (16 / SIZE) / 0.01**2
    assert labels.rows_needed == pytest.approx(needed, abs=1)
    assert labels.labels_to_collect == pytest.approx((needed - SIZE) / 0.25, abs=4)
    assert f"{labels.labels_to_collect:,} more labels" in verdict.reasons[0].text


def test_a_later_challenger_needs_more_to_claim_the_same() -> None:
    assert judged(20, 8).verdict == "PASS"
    late = judged(20, 8, k=10)
    assert late.verdict == "INSUFFICIENT"
    assert late.alpha_k == pytest.approx(0.05 / 110)
    assert "challenger number 10" in late.reasons[0].text


def test_a_model_against_itself_changes_nothing() -> None:
    challenger, champion = discordant(SIZE, 0, 0)
    predictions = table(LABELS, challenger, champion)
    for rules in (RULES, GateRules(require="non_inferior")):
        verdict = gate_verdict(predictions, rules, context=context(predictions, challenger=model("champion")))
        assert verdict.verdict == "INSUFFICIENT"
        assert rules_spoken(verdict) == {"unchanged"}


def test_another_model_with_the_same_answers_is_never_superior() -> None:
    verdict = judged(0, 0)
    assert verdict.verdict == "INSUFFICIENT"
    assert verdict.evidence is not None
    primary, labels = verdict.evidence.primary, verdict.evidence.labels
    assert primary.lower is not None and primary.upper is not None and labels is not None
    assert (primary.lower.value, primary.upper.value, primary.p_superior) == (0.0, 0.0, 1.0)
    assert labels.rows_needed is None
    assert "never differ" in verdict_summary(verdict)


def test_a_worse_challenger_fails() -> None:
    verdict = judged(5, 40)
    assert verdict.verdict == "FAIL"
    assert verdict.reasons[0].subject == "overall"
    assert "got worse" in verdict_summary(verdict)


def test_non_inferior_is_enough_where_the_project_says_so() -> None:
    rules = GateRules(require="non_inferior", min_improvement=0.02, bootstrap=Bootstrap(draws=2000))
    verdict = judged(10, 10, rules)
    assert verdict.verdict == "PASS"
    assert verdict.evidence is not None and verdict.evidence.primary.claim is not None
    assert verdict.evidence.primary.claim.level == 0.025
    assert judged(10, 10, rules.model_copy(update={"min_improvement": 0.005})).verdict == "INSUFFICIENT"


def test_no_difference_in_few_images_is_not_yet_non_inferior() -> None:
    # The interval is [0, 0], but 600 images would show no loss of half a point one time in twenty.
    rules = GateRules(require="non_inferior", min_improvement=0.005)
    verdict = judged(0, 0, rules)
    assert verdict.verdict == "INSUFFICIENT"
    assert verdict.evidence is not None and verdict.evidence.labels is not None
    assert verdict.evidence.labels.rows_needed == 736
    assert judged(0, 0, rules.model_copy(update={"min_improvement": 0.01})).verdict == "PASS"


def test_a_hurt_slice_fails_a_challenger_that_is_better_overall() -> None:
    champion = np.ones(SIZE, dtype=bool)
    champion[::4] = False
    challenger = np.ones(SIZE, dtype=bool)
    nights = np.arange(SIZE) % 8 == 1
    challenger[nights & (np.arange(SIZE) % 3 == 0)] = False
    rules = GateRules(slices=("light",), bootstrap=Bootstrap(draws=2000))
    predictions = table(LABELS, challenger, champion, light=list(np.where(nights, "night", "day")))
    verdict = gate_verdict(predictions, rules, context=context(predictions))
    assert verdict.verdict == "FAIL"
    assert rules_spoken(verdict, "FAIL") == {"regression"}
    assert verdict.reasons[0].subject == "light=night"
    assert verdict.evidence is not None and verdict.evidence.primary.difference is not None
    assert verdict.evidence.primary.difference > 0.1


def test_the_slice_table_holds_every_class_batch_and_declared_column() -> None:
    challenger, champion = discordant(SIZE, 30, 10, 20)
    predictions = table(LABELS, challenger, champion, batches=WEEKS, camera=["left", "right"] * (SIZE // 2))
    verdict = gate_verdict(predictions, GateRules(slices=("camera",)), context=context(predictions))
    assert verdict.evidence is not None
    rows = {row.name(): row for row in verdict.evidence.slices}
    assert list(rows) == [
        "overall",
        *(f"class={name}" for name in CLASSES),
        "batch=week-01",
        "batch=week-02",
        "camera=left",
        "camera=right",
    ]
    part = predictions[predictions["camera"] == "left"]
    right = part["challenger_prediction"] == part["label"]
    before = part["champion_prediction"] == part["label"]
    left = rows["camera=left"]
    assert (left.rows, left.challenger, left.champion) == (300, right.mean(), before.mean())
    assert left.wins is not None and left.losses is not None
    assert (left.wins, left.losses) == ((right & ~before).sum(), (before & ~right).sum())
    assert left.p_worse is not None and left.p_worse > 0.9, "nine more images won than lost"
    assert (left.tolerance, left.regressed) == (0.01, False)
    assert left.loss_found is not None and 0.03 < left.loss_found < 0.15
    assert left.rows_needed is not None and left.labels_to_collect is not None


def test_a_critical_slice_must_be_shown_to_be_no_worse() -> None:
    rules = GateRules(critical_slices=("class=nut",), bootstrap=Bootstrap(draws=2000))
    champion = np.ones(SIZE, dtype=bool)
    champion[np.arange(SIZE) % 12 == 0] = False
    challenger = np.ones(SIZE, dtype=bool)
    challenger[[1, 4, 7]] = False
    predictions = table(LABELS, challenger, champion)
    assert {LABELS[i] for i in (1, 4, 7)} == {"nut"}
    verdict = gate_verdict(predictions, rules, context=context(predictions))
    assert verdict.verdict == "INSUFFICIENT"
    assert [reason.subject for reason in verdict.reasons] == ["class=nut"]
    assert gate_verdict(predictions, RULES, context=context(predictions)).verdict == "PASS"


def test_a_critical_slice_without_images_is_insufficient() -> None:
    predictions = table(LABELS, *discordant(SIZE, 40, 5), batches=WEEKS)
    rules = GateRules(critical_slices=("batch=week-09",))
    verdict = gate_verdict(predictions, rules, context=context(predictions))
    assert verdict.verdict == "INSUFFICIENT"
    assert verdict.reasons[0].subject == "batch=week-09"


def test_a_batch_below_its_floor_fails_and_names_the_way_out() -> None:
    challenger, champion = discordant(SIZE, 60, 0)
    poisoned = np.arange(SIZE) >= 300
    challenger[poisoned & (np.arange(SIZE) % 10 < 3)] = False
    champion[poisoned & (np.arange(SIZE) % 10 < 3)] = False
    predictions = table(LABELS, challenger, champion, batches=WEEKS)
    verdict = gate_verdict(predictions, GateRules(floors=Floors(batch=0.85)), context=context(predictions))
    assert verdict.verdict == "FAIL"
    assert [reason.subject for reason in verdict.reasons if reason.effect == "FAIL"] == ["batch=week-02"]
    assert "`visionops retract parts week-02 --why TEXT`" in verdict.reasons[0].text


def test_a_batch_with_a_floor_of_its_own_shows_the_reason() -> None:
    challenger, champion = discordant(SIZE, 60, 0)
    challenger[350:450] = champion[350:450] = False
    predictions = table(LABELS, challenger, champion, batches=WEEKS)
    floors = Floors(batch=0.85, batches={"week-02": BatchFloor(floor=0.6, reason="lamp was broken")})
    verdict = gate_verdict(predictions, GateRules(floors=floors), context=context(predictions))
    assert verdict.verdict == "PASS"
    assert any("lamp was broken" in reason.text for reason in verdict.reasons)
    assert "lamp was broken" in verdict_page(verdict).to_markdown()


def test_a_floor_does_not_bind_a_slice_with_few_images() -> None:
    challenger, champion = discordant(SIZE, 60, 0)
    challenger[580:] = champion[580:] = False
    predictions = table(LABELS, challenger, champion, batches=["week-01"] * 580 + ["tiny"] * 20)
    assert (
        gate_verdict(predictions, GateRules(floors=Floors(batch=0.85)), context=context(predictions)).verdict
        == "PASS"
    )
    rules = GateRules(floors=Floors(batch=0.85, min_samples=20))
    assert gate_verdict(predictions, rules, context=context(predictions)).verdict == "FAIL"


def test_the_overall_floor_and_the_floor_of_every_class_bind() -> None:
    challenger, champion = discordant(SIZE, 60, 0, 60)
    nuts = np.array(LABELS) == "nut"
    challenger[nuts & (np.arange(SIZE) % 2 == 0)] = champion[nuts & (np.arange(SIZE) % 2 == 0)] = False
    predictions = table(LABELS, challenger, champion)
    floors = Floors(overall=0.99, slices={"class": 0.7})
    verdict = gate_verdict(predictions, GateRules(floors=floors), context=context(predictions))
    # What lies furthest below comes first.
    assert [reason.subject for reason in verdict.reasons] == ["class=nut", "overall"]


def test_without_a_champion_the_floors_alone_decide() -> None:
    right, _ = discordant(SIZE, 0, 60)
    predictions = table(LABELS, right, batches=WEEKS)
    first = gate_verdict(
        predictions, GateRules(floors=Floors(overall=0.85, batch=0.85)), context=context(predictions)
    )
    assert first.verdict == "PASS"
    assert first.champion is None
    assert "first champion" in verdict_summary(first)
    high = gate_verdict(predictions, GateRules(floors=Floors(overall=0.95)), context=context(predictions))
    assert high.verdict == "FAIL"


def test_classes_absent_from_the_holdout_are_named_and_not_judged() -> None:
    predictions = table(LABELS, *discordant(SIZE, 40, 5))
    verdict = gate_verdict(
        predictions, RULES, context=context(predictions, classes=(*CLASSES, "washer", "gear"))
    )
    assert verdict.verdict == "PASS"
    assert verdict.evidence is not None and verdict.evidence.absent_classes == ["washer", "gear"]
    assert any("washer, gear" in reason.text for reason in verdict.reasons)


def test_where_the_bootstrap_cannot_reach_the_verdict_says_so() -> None:
    rules = GateRules(require="non_inferior", min_improvement=0.05, bootstrap=Bootstrap(draws=2000))
    assert "normal_approximation" not in rules_spoken(judged(10, 10, rules))
    late = judged(10, 10, rules, k=5)
    assert late.evidence is not None and late.evidence.primary.claim is not None
    assert late.evidence.primary.claim.method == "normal"
    assert "normal_approximation" in rules_spoken(late, "NOTE")


def test_a_training_image_in_the_holdout_fails() -> None:
    predictions = table(LABELS, *discordant(SIZE, 40, 5))
    found = pd.DataFrame(
        [
            {
                "holdout_sha256": predictions["sha256"][3],
                "training_sha256": "f" * 64,
                "kind": "perceptual",
                "distance": 2,
                "correlation": 0.997,
                "holdout_path": predictions["path"][3],
                "training_path": "batches/week-00/images/copy.png",
            }
        ],
        columns=no_leaks().columns,
    )
    verdict = gate_verdict(predictions, RULES, context=context(predictions, leaks=found))
    assert verdict.verdict == "FAIL"
    assert rules_spoken(verdict) == {"leakage"}
    assert "batches/week-00/images/copy.png" in verdict_summary(verdict)
    assert verdict.evidence is not None and verdict.evidence.leaks[0].correlation == 0.997


def test_errors_between_groups_count_by_group() -> None:
    # 40 images won in two sessions: enough for McNemar, not for two coin flips.
    champion = np.ones(SIZE, dtype=bool)
    champion[:40] = False
    challenger = np.ones(SIZE, dtype=bool)
    groups = [f"session-{i // 20}" for i in range(SIZE)]
    predictions = table(LABELS, challenger, champion, groups=groups)
    verdict = gate_verdict(predictions, RULES, context=context(predictions))
    assert verdict.verdict == "INSUFFICIENT"
    assert verdict.evidence is not None and verdict.evidence.primary.p_superior == 0.25


def test_a_holdout_of_fewer_groups_than_a_claim_takes_says_so() -> None:
    cameras = [f"camera-{i % 4}" for i in range(SIZE)]
    predictions = table(LABELS, *discordant(SIZE, 60, 0), groups=cameras)
    for k, needed in ((1, 6), (3, 8)):
        verdict = gate_verdict(predictions, RULES, context=context(predictions, k=k))
        assert verdict.verdict == "INSUFFICIENT"
        (told,) = [reason.text for reason in verdict.reasons if reason.rule == "few_groups"]
        assert f"p = 0.062; to claim at {0.05 / k / (k + 1):.3g} takes at least {needed}" in told
    assert "few_groups" not in rules_spoken(
        gate_verdict(predictions.assign(group=predictions["sha256"]), RULES, context=context(predictions))
    )


DEAR = Costs(unit="EUR", matrix={"bolt": {"nut": 50.0}}, otherwise=1.0)


def priced(challenger_wrong: int, champion_wrong: int) -> Verdict:
    """Equal accuracy; the models differ in which wrong class they name for 30 bolts (1 place on is a nut)."""
    bolts = np.flatnonzero(np.array(LABELS) == "bolt")[:30]
    right = np.ones(SIZE, dtype=bool)
    right[bolts] = False
    predictions = predictions_table(
        holdout(LABELS),
        challenger=answers(LABELS, right, wrong=challenger_wrong),
        champion=answers(LABELS, right, wrong=champion_wrong),
    )
    rules = GateRules(costs=DEAR, min_improvement=0.1, bootstrap=Bootstrap(draws=2000))
    return gate_verdict(predictions, rules, context=context(predictions))


def test_errors_that_became_dear_are_refused_at_equal_accuracy() -> None:
    verdict = priced(challenger_wrong=1, champion_wrong=2)
    assert verdict.verdict == "FAIL"
    assert rules_spoken(verdict, "FAIL") == {"cost"}
    assert verdict.evidence is not None
    assert verdict.evidence.primary.metric == "expected cost"
    assert verdict.evidence.primary.unit == "EUR per image"
    assert verdict.evidence.primary.difference == pytest.approx(-30 * 49 / SIZE)
    assert verdict.evidence.guards[0].difference == 0
    assert "2.5 EUR per image against 0.05 EUR per image" in verdict_summary(verdict)


def test_errors_that_became_cheap_are_promoted_at_equal_accuracy() -> None:
    verdict = priced(challenger_wrong=2, champion_wrong=1)
    assert verdict.verdict == "PASS"
    assert verdict.evidence is not None and verdict.evidence.primary.claim is not None
    assert verdict.evidence.primary.claim.value > 0


def test_a_dear_class_missed_more_often_is_refused_at_equal_accuracy() -> None:
    bolts, nuts = (np.flatnonzero(np.array(LABELS) == name) for name in ("bolt", "nut"))
    challenger, champion = np.ones((2, SIZE), dtype=bool)
    challenger[bolts[:12]] = False
    champion[nuts[:12]] = False
    predictions = table(LABELS, challenger, champion)
    rules = GateRules(costs=DEAR, min_improvement=0.1, bootstrap=Bootstrap(draws=2000))
    verdict = gate_verdict(predictions, rules, context=context(predictions))
    assert verdict.verdict == "FAIL"
    assert {reason.subject for reason in verdict.reasons} >= {"expected cost", "class=bolt"}


def test_a_handful_of_dear_errors_less_is_not_yet_a_proof() -> None:
    # Four wins of 50 EUR: the bootstrap's bound is above 0, four fair coins fall so one time in sixteen.
    bolts = np.flatnonzero(np.array(LABELS) == "bolt")[:4]
    challenger, champion = np.ones((2, SIZE), dtype=bool)
    champion[bolts] = False
    predictions = table(LABELS, challenger, champion)
    rules = GateRules(costs=DEAR, min_improvement=0.1, bootstrap=Bootstrap(draws=2000))
    verdict = gate_verdict(predictions, rules, context=context(predictions))
    assert verdict.verdict == "INSUFFICIENT"
    assert verdict.evidence is not None and verdict.evidence.primary.p_superior == 1 / 16
