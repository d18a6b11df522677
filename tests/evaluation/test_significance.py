"""Tests, corrections and bounds equal scipy and statsmodels, and hold where those give no number."""

import itertools
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from visionops_assets.common.error_levels import labels_to_collect, level_left, rows_for_no_loss, rows_needed
from visionops_assets.evaluation.paired_difference import (
    DifferenceBounds,
    normal_bounds,
    paired_difference,
    spread,
)
from visionops_assets.evaluation.significance import (
    holm,
    least_losses,
    mcnemar,
    sign_flip,
    superiority_p_value,
)


# Few of them: statsmodels takes 100 ms a call.
@pytest.mark.slow
@pytest.mark.parametrize(
    "p",
    [
        [0.03],
        [0.02, 0.02, 0.02, 0.9],
        [1.0, 0.0, 1.0, 0.0],
        [0.04, 1e-300, 0.5, 0.01, 0.0125],
        list(np.random.default_rng(0).uniform(0, 0.2, 40)),
    ],
)
def test_holm_equals_statsmodels(p: list[float]) -> None:
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12, atol=1e-15)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_half_of_statsmodels_two_sided_test(wins: int, losses: int) -> None:
    one_sided = mcnemar(wins, losses)
    if wins > losses:
        two_sided = statsmodels_mcnemar([[0, wins], [losses, 0]], exact=True).pvalue
        assert one_sided == pytest.approx(two_sided / 2, rel=1e-9)
    else:
        assert one_sided >= 0.5


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=200))
def test_images_of_their_own_group_are_tested_by_binomtest(differences: list[int]) -> None:
    values = np.array(differences, dtype=float)
    paired = paired_difference(values, np.arange(len(values)))
    wins, losses = int((values > 0).sum()), int((values < 0).sum())
    p = superiority_p_value(wins, losses, paired, seed=0)
    if wins + losses:
        assert p == stats.binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue
    else:
        assert p == 1.0


@settings(deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=10))
def test_sign_flips_count_every_sign_pattern(sums: list[int]) -> None:
    values = np.array(sums, dtype=float)
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(sums))))
    expected = ((patterns * np.abs(values)).sum(axis=1) >= values.sum()).mean()
    assert sign_flip(values, seed=0) == pytest.approx(expected if values.any() else 1.0, rel=1e-9)


def by_every_pattern(values: np.ndarray) -> float:
    half = len(values) // 2
    first, second = (
        np.array(list(itertools.product([-1, 1], repeat=len(part)))) @ np.abs(part)
        for part in (values[:half], values[half:])
    )
    return float((first[:, None] + second >= values.sum() - 1e-9).mean())


def test_few_sums_are_counted_out() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, 14)
    assert sign_flip(values, seed=1) == pytest.approx(by_every_pattern(values), rel=1e-12)


@pytest.mark.parametrize("gain", [0.0, 0.4, 0.8])
def test_random_sign_flips_agree_with_every_sign_pattern(gain: float) -> None:
    values = np.random.default_rng(3).normal(gain, 1, 20)
    expected = by_every_pattern(values)
    # Four standard errors of a share of which 400 were seen, or a million flips.
    tolerance = 4 * max(expected / 20, np.sqrt(expected / 1e6))
    assert sign_flip(values, seed=1) == pytest.approx(expected, abs=tolerance)


def test_random_sign_flips_of_many_sizes_agree_with_the_normal_distribution() -> None:
    # The sum of 400 independent parts is normal to a few per cent here, and the flips add five.
    values = np.random.default_rng(4).normal(0.06, 1, 400)
    expected = stats.norm.sf(values.sum() / np.sqrt(np.square(values).sum()))
    assert 0.005 < expected < 0.1
    assert sign_flip(values, seed=1) == pytest.approx(expected, rel=0.2)


def test_one_session_is_one_piece_of_evidence() -> None:
    # A hundred frames of one session flip together: McNemar alone would call that certain.
    differences = np.array([1.0] * 100 + [0.0] * 900)
    groups = np.repeat(np.arange(10), 100)
    assert mcnemar(100, 0) < 1e-29
    assert superiority_p_value(100, 0, paired_difference(differences, groups), seed=0) == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    differences = rng.choice([-1.0, 0.0, 1.0], 300, p=[0.04, 0.88, 0.08])
    bounds = DifferenceBounds(paired_difference(differences, np.arange(300)), draws=2000, seed=seed)
    for level in (0.05, 0.03):
        expected = stats.bootstrap(
            (differences,),
            np.mean,
            n_resamples=2000,
            confidence_level=1 - 2 * level,
            method="BCa",
            batch=500,
            rng=np.random.default_rng(seed),
        ).confidence_interval
        found = bounds.at(level)
        assert found is not None
        assert (found[0].value, found[1].value) == pytest.approx((expected.low, expected.high), rel=1e-12)
        assert found[0].method == "bca"


def test_bounds_over_groups_are_those_of_scipy() -> None:
    rng = np.random.default_rng(5)
    differences = rng.choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.7, 0.2])
    paired = paired_difference(differences, rng.integers(0, 90, 400))
    # scipy leaves one group out at a time only through the indices of a paired sample.
    expected = stats.bootstrap(
        (paired.sums, paired.sizes),
        lambda sums, sizes, axis=-1: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        n_resamples=2000,
        confidence_level=0.9,
        method="BCa",
        batch=500,
        rng=np.random.default_rng(5),
    ).confidence_interval
    found = DifferenceBounds(paired, draws=2000, seed=5).at(0.05)
    assert found is not None
    assert (found[0].value, found[1].value) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_groups_are_drawn_whole() -> None:
    # Ten frames a session that err together: the interval is that of 30 sessions, not of 300 frames.
    rng = np.random.default_rng(0)
    by_session = rng.choice([-1.0, 0.0, 1.0], 30, p=[0.1, 0.7, 0.2])
    frames = np.repeat(by_session, 10)
    whole = DifferenceBounds(paired_difference(frames, np.repeat(np.arange(30), 10)), draws=4000, seed=0)
    alone = DifferenceBounds(paired_difference(frames, np.arange(300)), draws=4000, seed=0)
    sessions = DifferenceBounds(paired_difference(by_session, np.arange(30)), draws=4000, seed=0)
    whole_at, alone_at, sessions_at = (b.at(0.05) for b in (whole, alone, sessions))
    assert whole_at and alone_at and sessions_at
    assert whole_at[0].value == pytest.approx(sessions_at[0].value, abs=1e-12)
    assert whole_at[0].value < alone_at[0].value


def test_without_a_difference_the_interval_is_zero_and_not_nan() -> None:
    found = DifferenceBounds(paired_difference(np.zeros(50), np.arange(50)), draws=1000, seed=0).at(0.05)
    assert found is not None
    assert [(bound.value, bound.method) for bound in found] == [(0.0, "constant")] * 2


def test_one_group_has_no_interval() -> None:
    paired = paired_difference(np.array([1.0, 0.0, 1.0]), np.zeros(3, dtype=np.int64))
    assert DifferenceBounds(paired, draws=1000, seed=0).at(0.05) is None


def test_far_in_the_tail_the_bound_is_normal() -> None:
    rng = np.random.default_rng(0)
    differences = rng.choice([-1.0, 0.0, 1.0], 2000, p=[0.03, 0.9, 0.07])
    paired = paired_difference(differences, np.arange(2000))
    found = DifferenceBounds(paired, draws=10_000, seed=0).at(0.0049)
    assert found is not None
    assert found[0].method == "normal"
    expected = differences.mean() - NormalDist().inv_cdf(1 - 0.0049) * stats.sem(differences)
    assert found[0].value == pytest.approx(expected, rel=1e-12)
    near = DifferenceBounds(paired, draws=10_000, seed=0).at(0.005)
    assert near is not None
    assert near[0].method == "bca"
    assert near[0].value == pytest.approx(normal_bounds(paired, 0.005)[0].value, abs=0.001)


def test_labels_follow_the_formula_of_the_design() -> None:
    # (z + 0.842)² d/δ²: at k = 1 with α = 0.05 about 7.85 d/δ².
    assert rows_needed(0.06, 0.02, level_left(0.05, 1)) == pytest.approx(
        (1.95996 + 0.84162) ** 2 * 0.06 / 0.02**2, abs=1
    )
    assert rows_needed(0.0, 0.02, 0.025) is None
    assert labels_to_collect(1000, 400, 0.25) == 2400
    assert labels_to_collect(300, 400, 0.25) == 0
    assert labels_to_collect(None, 400, 0.25) is None


def test_images_of_one_group_ask_for_more_labels() -> None:
    frames = np.repeat(np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 60), 5)
    together = paired_difference(frames, np.repeat(np.arange(60), 5))
    single = paired_difference(frames, np.arange(300))
    assert spread(frames, single) == np.mean(frames != 0)
    assert spread(frames, together) == pytest.approx(5 * np.mean(frames != 0))


def test_nothing_lost_in_few_images_proves_little() -> None:
    assert rows_for_no_loss(0.01, 0.05) == 299
    assert least_losses(0, 298, 0.01) > 0.05 >= least_losses(0, 299, 0.01)
    assert least_losses(3, 1000, 0.01) == stats.binom.cdf(3, 1000, 0.01)
