"""Evidence that may be looked at at any time: never above 1 in the mean while nothing is wrong, and rarely large."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as some
from numpy.typing import NDArray
from scipy.stats import binom

from visionops_assets.rollout.e_values import (
    NO_WORSE_AT,
    SAFETY_AT,
    SILENCE_AT,
    WORSE_AT,
    log_e_no_worse,
    log_e_pairs,
    log_e_share,
    log_e_worse,
)

Floats = NDArray[np.float64]


@given(some.integers(0, 300), some.integers(0, 300), some.floats(0.001, 0.5))
@example(103, 0, 0.001)
def test_the_mean_after_one_more_unit_is_the_value_before_it_at_the_null(
    k: int, ok: int, share: float
) -> None:
    n = k + ok
    now, *after = (log_e_share(*at, share) for at in ((k, n), (k + 1, n + 1), (k, n + 1)))
    # As shares of the value before: a hundred failures of a rare kind are more than a float can hold.
    failed, well = np.exp(np.array(after) - now)
    assert share * failed + (1 - share) * well == pytest.approx(1, rel=1e-6)
    # Where fewer fail than may, the mean falls.
    assert share / 2 * failed + (1 - share / 2) * well <= 1 + 1e-9


@pytest.mark.parametrize("n", [0, 1, 7, 200, 5000])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_the_mean_is_one_at_the_null_and_less_below_it(n: int, share: float) -> None:
    k = np.arange(n + 1)
    values = log_e_share(k, n, share)
    assert np.exp(binom.logpmf(k, n, share) + values).sum() == pytest.approx(1, rel=1e-6)
    assert np.exp(binom.logpmf(k, n, share / 3) + values).sum() <= 1 + 1e-9


@given(some.integers(1, 400), some.floats(0.001, 0.2))
def test_more_failures_are_more_evidence(n: int, share: float) -> None:
    values = log_e_share(np.arange(n + 1), n, share)
    assert (np.diff(values) > 0).all()


def test_one_failure_of_one_device_stops_and_nine_lost_pairs_do() -> None:
    assert np.exp(log_e_share(1, 1, 0.01)) == pytest.approx(50.5)
    assert np.exp(log_e_share(1, 1, 0.01)) >= SAFETY_AT > np.exp(log_e_share(1, 1, 0.0102))
    lost = np.exp(log_e_pairs(np.arange(12), np.arange(12)))
    assert (lost >= SILENCE_AT).argmax() == 9


def test_of_a_million_devices_values_are_finite_or_rule_it_out() -> None:
    found = log_e_share([0, 10, 10_000, 10**6], 10**6, 0.01)
    assert not np.isnan(found).any() and found[0] < -1000 and found[3] > 10**6


@given(some.lists(some.floats(-1, 1), min_size=1, max_size=30), some.floats(0.001, 0.3))
def test_a_bet_that_may_go_either_way_gains_nothing_in_the_mean(x: list[float], margin: float) -> None:
    up, down = ([*x, 1.0], [*x, -1.0])
    now = np.exp(log_e_worse(x))[-1]
    assert (np.exp(log_e_worse(up))[-1] + np.exp(log_e_worse(down))[-1]) / 2 == pytest.approx(now)
    # A difference of the margin itself gains and loses nothing.
    before, after = np.exp(log_e_no_worse([*x, margin], margin))[-2:]
    assert after == pytest.approx(before)


def ever(log_e: Floats, threshold: float) -> float:
    """The share of trials, one a row, in which a value ever reached a threshold."""
    return float((log_e >= np.log(threshold)).any(axis=-1).mean())


def bound(alpha: float, trials: int) -> float:
    """An error rate with three standard errors."""
    return float(alpha + 3 * np.sqrt(alpha * (1 - alpha) / trials))


def test_a_candidate_that_fails_as_often_as_it_may_is_rarely_stopped(
    count: Callable[[int, int], int],
) -> None:
    trials, rng = count(300, 2000), np.random.default_rng(1)
    for devices in (20, 400, count(800, 2000)):
        for share in (0.01, 0.002):
            failed = np.cumsum(rng.random((trials, devices)) < share, axis=1)
            found = ever(log_e_share(failed, np.arange(1, devices + 1), 0.01), SAFETY_AT)
            assert found <= bound(1 / SAFETY_AT, trials), (devices, share, found)


def test_a_candidate_that_fails_on_a_quarter_is_stopped_after_few_reports(
    count: Callable[[int, int], int],
) -> None:
    trials, rng = count(300, 2000), np.random.default_rng(2)
    failed = np.cumsum(rng.random((trials, 400)) < 0.25, axis=1)
    over = log_e_share(failed, np.arange(1, 401), 0.01) >= np.log(SAFETY_AT)
    assert over.any(axis=1).all() and np.median(over.argmax(axis=1) + 1) <= 8


def test_pairs_say_nothing_of_outages_and_rarely_wrongly(count: Callable[[int, int], int]) -> None:
    trials, rng = count(300, 2000), np.random.default_rng(3)
    for pairs in (20, 400, count(800, 2000)):
        for natural in (0.005, 0.08):
            # A site that hits both arms in every fifth rollout.
            outage = np.where(rng.random((trials, 1)) < 0.2, 0.3, 0.0)
            silent, other = (
                (rng.random((trials, pairs)) < natural) | (rng.random((trials, pairs)) < outage)
                for _ in range(2)
            )
            lost, differ = np.cumsum(silent & ~other, axis=1), np.cumsum(silent ^ other, axis=1)
            found = ever(log_e_pairs(lost, differ), SILENCE_AT)
            assert found <= bound(1 / SILENCE_AT, trials), (pairs, natural, found)


def units(rng: np.random.Generator, trials: int, devices: int, blocks: int, **world: float) -> Floats:
    """x of units at no difference, time first: three labelled frames each. `spread` is how far devices differ in the
    chance that the candidate loses a frame, `repeats` how often a frame of a unit has the outcome of its first,
    `neighbours` how often a block has that of the one before."""
    chance = 0.5 + rng.normal(0, world.get("spread", 0.0), (trials, devices, 1))
    chance = np.broadcast_to(np.clip(chance, 0.01, 0.99), (trials, devices, blocks))
    first = rng.random(chance.shape) < chance
    for block in range(1, blocks):
        same = rng.random((trials, devices)) < world.get("neighbours", 0.0)
        first[..., block] = np.where(same, first[..., block - 1], first[..., block])
    repeated = rng.random((2, *chance.shape)) < world.get("repeats", 0.0)
    others = np.where(repeated, first, rng.random((2, *chance.shape)) < chance)
    lost = first.astype(float) + others.sum(axis=0)
    return (2 * lost / 3 - 1).transpose(0, 2, 1).reshape(trials, -1)


@pytest.mark.parametrize(
    ("devices", "blocks", "world"),
    [(400, 3, {}), (400, 1, {"spread": 0.2}), (400, 3, {"repeats": 0.7})],
    ids=["independent", "one unit a device, which differ", "frames of a unit repeat"],
)
def test_no_difference_is_rarely_called_worse(
    devices: int, blocks: int, world: dict[str, float], count: Callable[[int, int], int]
) -> None:
    trials = count(200, 2000)
    x = units(np.random.default_rng(4), trials, devices, blocks, **world)
    found = np.mean([ever(log_e_worse(part), WORSE_AT) for part in np.array_split(x, max(1, trials // 100))])
    assert found <= bound(1 / WORSE_AT, trials), found


def test_a_loss_of_the_margin_is_rarely_called_none(count: Callable[[int, int], int]) -> None:
    trials, margin, rng = count(200, 2000), 0.02, np.random.default_rng(5)
    z = np.where(rng.random((trials, 600)) < 0.2, 1.0, 0.0) * (2 * (rng.random((trials, 600)) < 0.55) - 1)
    found = np.mean(
        [ever(log_e_no_worse(part, margin), NO_WORSE_AT) for part in np.array_split(z, trials // 100)]
    )
    assert found <= bound(1 / NO_WORSE_AT, trials), found


@pytest.mark.stated
def test_together_the_three_stop_a_good_rollout_in_at_most_a_twentieth() -> None:
    trials, rng = 2000, np.random.default_rng(6)
    stopped = np.zeros(trials, np.bool_)
    failed = np.cumsum(rng.random((trials, 400)) < 0.01, axis=1)
    stopped |= (log_e_share(failed, np.arange(1, 401), 0.01) >= np.log(SAFETY_AT)).any(axis=1)
    silent, other = (rng.random((trials, 400)) < 0.08 for _ in range(2))
    pairs = log_e_pairs(np.cumsum(silent & ~other, 1), np.cumsum(silent ^ other, 1))
    stopped |= (pairs >= np.log(SILENCE_AT)).any(axis=1)
    x = units(rng, trials, 400, 3, repeats=0.7)
    worse = [(log_e_worse(part) >= np.log(WORSE_AT)).any(axis=1) for part in np.array_split(x, 20)]
    stopped |= np.concatenate(worse)
    assert stopped.mean() <= bound(0.05, trials), stopped.mean()
