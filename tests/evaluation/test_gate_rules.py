"""The gate section of a project file: what is declared is checked, and has one digest."""

import pytest
from pydantic import ValidationError

from visionops_assets.config.gate_rules import BatchFloor, Costs, Floors, GateRules, Regressions


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"alhpa": 0.1}, "alhpa"),
        ({"alpha": 0.7}, "less than 0.5"),
        ({"min_improvement": 0}, "greater than 0"),
        ({"min_improvement": 1.5}, "a share of the images"),
        ({"min_improvement": float("nan")}, "greater than 0"),
        ({"require": "better"}, "'superior' or 'non_inferior'"),
        ({"slices": ["label"]}, "not a column to declare"),
        ({"slices": ["camera", "camera"]}, "named twice"),
        ({"critical_slices": ["camera=left"]}, "with a column of class, batch"),
        ({"critical_slices": ["nut"]}, "should be 'column=value'"),
        ({"floors": {"slices": {"batch": 0.8}}}, "floors.batch"),
        ({"floors": {"batches": {"week-03": {"floor": 0.5}}}}, "reason"),
        ({"floors": {"overall": 1.2}}, "less than or equal to 1"),
        ({"costs": {"unit": "EUR", "matrix": {}}}, "otherwise"),
        ({"costs": {"unit": "EUR", "matrix": {}, "otherwise": 0}}, "costs the same"),
        ({"costs": {"unit": "EUR", "matrix": {"a": {"b": float("inf")}}, "otherwise": 1}}, "finite"),
        ({"bootstrap": {"draws": 10}}, "greater than or equal to 1000"),
        ({"regressions": {"tolerance": 1}}, "less than 1"),
        ({"regressions": {"min_samples": 0}}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_rule_is_refused_by_name(section: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        GateRules.model_validate(section)
    assert complaint in str(refused.value)


def test_the_digest_follows_what_bears_on_a_verdict() -> None:
    rules = GateRules()
    assert rules.digest() == GateRules.model_validate({"alpha": 0.05}).digest()
    assert rules.digest() == GateRules(approval="manual").digest()
    for changed in (
        GateRules(alpha=0.04),
        GateRules(slices=("camera",)),
        GateRules(floors=Floors(batch=0.6)),
        GateRules(costs=Costs(unit="EUR", matrix={}, otherwise=1)),
    ):
        assert changed.digest() != rules.digest()


def test_a_batch_has_the_common_floor_unless_it_has_its_own() -> None:
    floors = Floors(
        batch=0.9, batches={"week-03": BatchFloor(floor=0.6, reason="night shift")}, slices={"class": 0.7}
    )
    assert floors.of("batch", "week-02") == (0.9, None)
    assert floors.of("batch", "week-03") == (0.6, "night shift")
    assert floors.of("class", "nut") == (0.7, None)
    assert floors.of("camera", "left") == (None, None)


def test_costs_default_to_the_price_of_an_unlisted_error() -> None:
    costs = Costs(unit="EUR", matrix={"crack": {"fine": 90, "crack": 2}}, otherwise=4)
    assert [
        costs.of(*pair)
        for pair in [("crack", "fine"), ("crack", "crack"), ("fine", "crack"), ("fine", "fine")]
    ] == [
        90,
        2,
        4,
        0,
    ]
    assert costs.dearest == 90


def test_a_rule_about_an_unknown_class_is_refused() -> None:
    GateRules(critical_slices=("class=nut",)).check_classes(["bolt", "nut"])
    with pytest.raises(ValueError, match="'screw'"):
        GateRules(critical_slices=("class=screw",)).check_classes(["bolt", "nut"])
    with pytest.raises(ValueError, match="'crack'"):
        GateRules(costs=Costs(unit="EUR", matrix={"nut": {"crack": 1}}, otherwise=1)).check_classes(
            ["bolt", "nut"]
        )


def test_a_release_that_adds_a_rule_asks_no_old_question_again() -> None:
    """Digests as the first release made them: verdicts that it stored are found by them."""
    assert GateRules().digest() == "02b7e0ac02f2d31750d2185e62ab0f31a0a4b28d80aade8772e986a12759d899"
    strict = GateRules(alpha=0.1, floors=Floors(overall=0.9))
    assert strict.digest() == "45e94121471da1c4230e6ec3dc37b12777cffe8720ac2bebb09c4587ac40fbaf"
    assert GateRules.model_validate(strict.model_dump(mode="json")).digest() == strict.digest()
    declared = strict.model_copy(update={"regressions": Regressions(tolerance=0.03)})
    assert declared.digest() != strict.digest()


def test_a_slice_may_lose_a_point_and_a_detector_two_unless_the_project_says_otherwise() -> None:
    rules = GateRules().regressions
    assert (rules.tolerated("classification"), rules.tolerated("detection")) == (0.01, 0.02)
    declared = Regressions(tolerance=0)
    assert (declared.tolerated("classification"), declared.tolerated("detection")) == (0, 0)


def test_how_many_groups_a_holdout_needs_at_least() -> None:
    assert GateRules().least_groups == 6
    assert GateRules(alpha=0.01).least_groups == 8
    assert GateRules(require="non_inferior").least_groups == 368
