"""Whether a slice lost more than is tolerated: the exact test of a paired loss beyond a margin, and what it finds."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from holdouts import context, discordant, labels_in_turn, table
from scipy import stats

from visionops_assets.config.gate_rules import Bootstrap, GateRules, Regressions
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.paired_difference import PairedDifference, paired_difference
from visionops_assets.evaluation.significance import loss_found, p_of_loss
from visionops_assets.evaluation.verdict import SliceRow
from visionops_assets.evaluation.verdict_wording import verdict_summary

Count = Callable[[int, int], int]
TOLERANCE = 0.01
RULES = GateRules(bootstrap=Bootstrap(draws=1000))


def single(rows: int) -> PairedDifference:
    """So many images, each a group of its own."""
    return paired_difference(np.zeros(rows), np.arange(rows))


@cache
def p(losses: int, wins: int, rows: int, tolerance: float = TOLERANCE) -> float:
    return p_of_loss(wins, losses, single(rows), tolerance=tolerance, seed=0)


def least_refused(wins: int, rows: int, level: float, tolerance: float = TOLERANCE) -> int:
    """The losses from which so many images are refused; more than there can be where none are."""
    few, enough = wins, rows - wins + 1
    while few + 1 < enough:
        middle = (few + enough) // 2
        few, enough = (few, middle) if p(middle, wins, rows, tolerance) <= level else (middle, enough)
    return enough


def refused(rows: int, lost: float, won: float, level: float, tolerance: float = TOLERANCE) -> float:
    """The exact chance of a refusal where the challenger loses and wins images with these chances."""
    chance = 0.0
    for wins in range(rows + 1):
        so_many = stats.binom.pmf(wins, rows, won)
        if so_many > 1e-9:
            least = least_refused(wins, rows, level, tolerance)
            chance += so_many * stats.binom.sf(least - 1, rows - wins, lost / (1 - won))
    return float(chance)


@pytest.mark.parametrize(("tolerance", "rows"), [(0.0, 25), (0.01, 60), (0.04, 40)])
def test_a_loss_of_the_tolerance_is_refused_no_more_often_than_stated_whatever_else_differs(
    tolerance: float, rows: int
) -> None:
    """Counted over every possible holdout, not simulated: the level is kept at each share of differing images."""
    for level in (0.05, 0.005):
        for won in (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.48):
            assert refused(rows, tolerance + won, won, level, tolerance) <= level


def test_the_p_value_is_the_largest_chance_of_a_score_as_large() -> None:
    """Against a sum over all tables, each with its score from a maximum found by search."""
    rows, losses, wins = 30, 5, 1
    tolerance = 0.02

    def score(lost: int, won: int) -> float:
        shares = np.linspace(1e-6, (1 - tolerance) / 2 - 1e-6, 4001)
        likelihood = lost * np.log(shares + tolerance) + won * np.log(shares)
        likelihood = likelihood + (rows - lost - won) * np.log(1 - 2 * shares - tolerance)
        share = shares[likelihood.argmax()]
        return (lost - won - rows * tolerance) / np.sqrt(rows * (2 * share + tolerance * (1 - tolerance)))

    observed = score(losses, wins)
    tables = [(lost, won) for lost in range(rows + 1) for won in range(rows + 1 - lost)]
    beyond = np.array([pair for pair in tables if score(*pair) >= observed - 1e-6])
    counts = np.column_stack([beyond, rows - beyond.sum(axis=1)])
    # Shares of wins that the six differing images leave possible.
    chances = [
        stats.multinomial.pmf(counts, rows, [won + tolerance, won, 1 - 2 * won - tolerance]).sum()
        for won in np.linspace(0, 0.3, 200)
    ]
    assert p(losses, wins, rows, tolerance) == pytest.approx(max(chances), rel=0.01)


def test_more_losses_fewer_wins_and_a_smaller_tolerance_speak_against_a_model() -> None:
    for rows, lost in ((20, 4), (100, 8), (1000, 25), (20_000, 240)):
        assert p(lost + 5, 3, rows) < p(lost, 3, rows) < p(lost, 8, rows)
        assert p(lost, 3, rows, 0.0) <= p(lost, 3, rows, 0.01) <= p(lost, 3, rows, 0.05)
    assert p(0, 0, 100) >= 0.5
    assert p(10, 0, 10) < 0.002, "a slice of ten that lost everything shows it"
    assert p(1, 0, 100) > 0.05, "one image is the tolerance itself"


def test_images_of_one_group_are_one_loss() -> None:
    lost = np.zeros(400)
    lost[:40] = -1
    for per_group, level in ((1, 1e-6), (5, 0.01), (20, 0.25), (40, 0.5)):
        paired = paired_difference(lost, np.arange(400) // per_group)
        assert p_of_loss(0, 40, paired, tolerance=TOLERANCE, seed=0) == pytest.approx(
            max(level, 2.0 ** -(40 // per_group)), rel=1.5
        )


@pytest.mark.parametrize("groups_of", [5, pytest.param(20, marks=pytest.mark.stated)])
@pytest.mark.parametrize("together", [0.3, 0.9])
def test_groups_that_err_together_keep_the_level(count: Count, groups_of: int, together: float) -> None:
    """A true loss of the tolerance, where the images of a group are lost and won together."""
    trials, groups = count(300, 2000), 40
    rng = np.random.default_rng(3)
    refusals = 0
    for _ in range(trials):
        of_group = rng.choice([-1, 1, 0], (groups, 1), p=[0.06, 0.05, 0.89])
        alone = rng.choice([-1, 1, 0], (groups, groups_of), p=[0.06, 0.05, 0.89])
        gain = np.where(rng.random((groups, groups_of)) < together, of_group, alone).ravel()
        paired = paired_difference(gain.astype(float), np.repeat(np.arange(groups), groups_of))
        wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
        refusals += p_of_loss(wins, losses, paired, tolerance=TOLERANCE, seed=0) <= 0.05
    assert refusals <= trials * 0.05 + 3 * np.sqrt(trials * 0.05 * 0.95)


@pytest.mark.parametrize("rows", [30, 46, 100, 250])
@pytest.mark.parametrize("slices", [1, 12])
def test_the_loss_that_is_said_to_be_found_is_found_four_times_in_five(rows: int, slices: int) -> None:
    level = 0.05 / slices
    found = loss_found(single(rows), level=level, tolerance=TOLERANCE, spread=0.0, noise=0)
    assert refused(rows, found, 0.0, level) >= 0.8
    if found > 0.02:
        assert refused(rows, found - 0.01, 0.0, level) < 0.8


def test_of_many_images_the_loss_found_is_about_right_too() -> None:
    rows, level = 400, 0.05 / 12
    found = loss_found(single(rows), level=level, tolerance=TOLERANCE, spread=0.0, noise=8)
    assert 0.75 <= refused(rows, 0.02 + found, 0.02, level) <= 0.9


def test_what_is_found_of_five_points_is_what_the_documentation_says() -> None:
    """docs/gate.md, "What a slice shows": images, share of images on which the models differ, slices, chance."""
    for rows, differ, slices, stated in (
        (100, 0.05, 1, 0.56),
        (100, 0.05, 12, 0.13),
        (150, 0.05, 1, 0.87),
        (300, 0.05, 12, 0.89),
        (300, 0.07, 1, 0.86),
    ):
        won = (differ - 0.05) / 2
        assert refused(rows, 0.05 + won, won, 0.05 / slices) == pytest.approx(stated, abs=0.006)


def slices_of(challenger: np.ndarray, champion: np.ndarray, rules: GateRules) -> dict[str, SliceRow]:
    labels = labels_in_turn(len(challenger))
    predictions = table(labels, challenger, champion)
    evidence = gate_verdict(predictions, rules, context=context(predictions)).evidence
    assert evidence is not None
    return {row.name(): row for row in evidence.slices}


def test_a_refusal_names_slice_images_tolerance_and_power() -> None:
    challenger, champion = np.ones(300, bool), np.ones(300, bool)
    champion[0::3][:60], challenger[1::3][:20] = False, False
    predictions = table(labels_in_turn(300), challenger, champion)
    verdict = gate_verdict(predictions, RULES, context=context(predictions))
    assert verdict.verdict == "FAIL"
    (text,) = [reason.text for reason in verdict.reasons if reason.rule == "regression"]
    for told in (
        "class nut",
        "on 100 holdout images",
        "a loss of at most 1.00 points",
        "over 5 slices",
        "Of 100 images a loss of",
    ):
        assert told in text


def test_a_slice_within_its_tolerance_refuses_nothing_and_the_tolerance_is_declared() -> None:
    size = 3000
    challenger, champion = np.ones(size, bool), np.ones(size, bool)
    champion[1::3][:60] = False
    challenger[0::3][:40] = False
    strict = slices_of(challenger, champion, GateRules(regressions=Regressions(tolerance=0)))
    assert strict["class=bolt"].regressed, "40 of 1,000 lost and none won"
    assert slices_of(challenger, champion, GateRules())["class=bolt"].regressed
    lenient = slices_of(challenger, champion, GateRules(regressions=Regressions(tolerance=0.04)))
    assert not lenient["class=bolt"].regressed
    assert lenient["class=bolt"].tolerance == 0.04


def test_a_slice_of_too_few_images_is_not_tested_and_is_named() -> None:
    size = 300
    challenger, champion = discordant(size, 60, 0)
    tiny = ["tiny"] * 8 + ["week-01"] * 292
    challenger[:8], champion[:8] = False, True
    predictions = table(labels_in_turn(size), challenger, champion, batches=tiny)
    verdict = gate_verdict(predictions, RULES, context=context(predictions))
    assert verdict.verdict == "PASS"
    assert any("batch=tiny (8)" in reason.text for reason in verdict.reasons)
    few = RULES.model_copy(update={"regressions": Regressions(min_samples=8)})
    judged = gate_verdict(predictions, few, context=context(predictions))
    assert judged.verdict == "FAIL" and judged.reasons[0].subject == "batch=tiny"


def test_a_pass_says_how_little_is_known_of_the_least_known_slice() -> None:
    challenger, champion = discordant(600, 40, 5)
    weeks = ["week-01"] * 560 + ["week-02"] * 40
    predictions = table(labels_in_turn(600), challenger, champion, batches=weeks)
    verdict = gate_verdict(predictions, RULES, context=context(predictions))
    assert verdict.verdict == "PASS"
    assert "least is known of batch=week-02: of 40 images a loss of" in verdict_summary(verdict)
