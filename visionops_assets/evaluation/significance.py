"""Tests of one-sided claims about paired models: that one is better, and that a slice lost no more than is
tolerated.

The null of a tolerated loss is "the loss is at most the tolerance". Of n images the champion alone gets l right and
the challenger alone g; the statistic is Tango's score of l − g against n times the tolerance (Tango 1998,
"Equivalence test and confidence interval for the difference in proportions for the paired-sample design"), and its
p-value is exact and unconditional (Hsueh, Liu & Chen 2001, "Unconditional exact tests for equivalence or
noninferiority for paired binary endpoints"): the largest over all shares of images that the models may differ on,
among those that the found share leaves possible (Berger & Boos 1994). McNemar's test has no such margin, and with
few differing images less power.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from visionops_assets.common.error_levels import POWER
from visionops_assets.evaluation.paired_difference import Floats, PairedDifference

_SIGN_FLIPS = 1_000_000
_FLIPS_AT_ONCE = 20_000
# A p-value is then right to a twentieth of itself.
_ENOUGH_REACHED = 400
# Up to so many sums every pattern of signs is counted.
_FEW_SUMS = 16
# With more sizes than this, flips are drawn bit by bit.
_MANY_SIZES = 30
# Up to this total the exact distribution is quicker than the flips.
_EXACT_REACH = 20_000
# Chance that the true share of differing images lies outside those that are searched; it is added to p.
_OUTSIDE = 1e-6
_GRID = 60
# Beyond this the exact p-value refuses nothing at any level in use, and the score's own is enough.
_PLAINLY_NO_LOSS = 0.3
_FEW_IMAGES = 300


def mcnemar(wins: int, losses: int) -> float:
    """Exact one-sided McNemar test: the chance of so many wins if wins and losses were a fair coin's.

    `scipy.stats.binomtest(wins, wins + losses, 0.5, alternative="greater")` (McNemar 1947; statsmodels'
    `mcnemar` is two-sided). 1 where the models never differ.
    """
    from scipy.stats import binomtest

    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue)


def sign_flip(sums: Floats, *, seed: int) -> float:
    """Chance of a total this large if each group's sum could as well have had the other sign.

    Fisher's randomisation test: exact for sums of one size (the sign test), for whole numbers (by convolution) and
    for up to 16 sums (by counting), otherwise from up to 10⁶ random flips, counting the observed one (Phipson & Smyth
    2010), so it is never 0. They end where 400 have reached the observed sum (Besag & Clifford 1991, "Sequential Monte
    Carlo p-values").
    """
    sizes, counts = np.unique(np.round(np.abs(sums[sums != 0]), 9), return_counts=True)
    if len(sizes) == 0:
        return 1.0
    if len(sizes) == 1:
        wins = int((sums > 0).sum())
        return mcnemar(wins, int(counts[0]) - wins)
    observed = float(sums.sum())
    reach = float(sizes @ counts)
    if reach <= _EXACT_REACH and bool((sizes == np.rint(sizes)).all()):
        return _tail_of_flips(sizes.astype(np.int64), counts, round((observed + reach) / 2))
    if counts.sum() <= _FEW_SUMS:
        return _tail_of_patterns(np.abs(sums[sums != 0]), observed - 1e-6 * float(sizes[0]))
    rng = np.random.default_rng(seed)
    if len(sizes) > _MANY_SIZES:
        return _tail_of_drawn(_sums_of_bits(np.abs(sums[sums != 0]), rng), observed - 1e-6 * abs(observed))
    return _tail_of_drawn(_sums_of_binomials(sizes, counts, rng), observed - 1e-6 * float(sizes[0]))


def _tail_of_patterns(sizes: Floats, least: float) -> float:
    totals = np.zeros(1)
    for size in sizes:
        totals = np.concatenate([totals + size, totals - size])
    return float((totals >= least).mean())


def _tail_of_drawn(totals: Iterator[Floats], least: float) -> float:
    reached = flips = 0
    for drawn in totals:
        reached += int((drawn >= least).sum())
        flips += len(drawn)
        if flips >= _SIGN_FLIPS or reached >= _ENOUGH_REACHED:
            break
    return (1 + reached) / (1 + flips)


def _sums_of_binomials(
    sizes: Floats, counts: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[Floats]:
    while True:
        totals = np.zeros(_FLIPS_AT_ONCE)
        for size, count in zip(sizes, counts, strict=True):
            totals += size * (2.0 * rng.binomial(count, 0.5, _FLIPS_AT_ONCE) - count)
        yield totals


def _sums_of_bits(sizes: Floats, rng: np.random.Generator) -> Iterator[Floats]:
    while True:
        bits = rng.integers(0, 256, (_FLIPS_AT_ONCE, -(-len(sizes) // 8)), dtype=np.uint8)
        positive = np.unpackbits(bits, axis=1, count=len(sizes)).astype(np.float32) @ sizes.astype(np.float32)
        yield 2 * positive.astype(np.float64) - sizes.sum()


def _tail_of_flips(sizes: NDArray[np.int64], counts: NDArray[np.int64], least: int) -> float:
    """P(Σ size · B(count, ½) ≥ least)."""
    from scipy.stats import binom

    chances = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        positive = np.zeros(size * count + 1)
        positive[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, positive)
    return min(1.0, float(chances[least:].sum()))


def superiority_p_value(wins: int, losses: int, paired: PairedDifference, *, seed: int) -> float:
    """p-value of "more wins than losses": exact McNemar, and no smaller than groups allow.

    Images of one group err together, so where a group has several, the larger of McNemar's p and that of
    `sign_flip` over groups counts.
    """
    p = mcnemar(wins, losses)
    if bool((paired.sizes == 1).all()) or p == 1.0:
        return p
    return max(p, sign_flip(paired.sums, seed=seed))


def least_losses(net_losses: float, rows: int, margin: float) -> float:
    """Chance of at most so many net losses in `rows` images, were the challenger worse by `margin`.

    Without a single difference a resampled interval is [0, 0] whatever the sample size; this is what few
    images still allow (the "rule of three"): the binomial tail P(L ≤ net losses), L ~ B(rows, margin).
    """
    from scipy.stats import binom

    return float(binom.cdf(math.floor(max(net_losses, 0.0)), rows, min(margin, 1.0)))


def holm(p_values: NDArray[np.float64] | list[float]) -> Floats:
    """Holm's step-down adjusted p-values [tests] (Holm 1979), in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def p_of_loss(wins: int, losses: int, paired: PairedDifference, *, tolerance: float, seed: int) -> float:
    """p-value of "at most `tolerance` of the images were lost".

    `paired` is challenger less champion. Images of one group err together: where a group has several, the larger of
    the exact p and that of flipping the signs of the groups' losses beyond the tolerance counts.
    """
    p = _exact_tail(wins, losses, paired.rows, tolerance)
    if bool((paired.sizes == 1).all()) or p > _PLAINLY_NO_LOSS:
        return p
    return max(p, p_of_group_losses(paired, tolerance=tolerance, seed=seed))


def p_of_group_losses(paired: PairedDifference, *, tolerance: float, seed: int) -> float:
    """The same by groups alone, for any metric: chance of so large a total loss beyond the tolerance if each group's
    could as well have had the other sign (`sign_flip`)."""
    return sign_flip(-paired.sums - tolerance * paired.sizes, seed=seed)


def loss_found(
    paired: PairedDifference, *, level: float, tolerance: float, spread: float, noise: int | None = None
) -> float:
    """The smallest true loss, a share of the images, that is found at `level` four times in five.

    The loss aside, the models are taken to differ as they do: single images by `noise` won and as many lost, which is
    counted where they are few; groups, and metrics that count none, by the mean square difference per image, `spread`,
    in the normal approximation. 1 where nothing smaller is found.
    """
    rows = paired.rows
    if noise is not None and bool((paired.sizes == 1).all()):
        if rows <= _FEW_IMAGES:
            return _counted_loss(noise, rows, tolerance, level)
        spread = 2 * noise / rows
    quantiles = NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(POWER)
    loss = tolerance
    for _ in range(20):
        # A loss is itself a difference.
        loss = tolerance + quantiles * math.sqrt((spread + loss) / rows)
    return min(1.0, loss)


@lru_cache(maxsize=1 << 14)
def _counted_loss(wins: int, rows: int, tolerance: float, level: float) -> float:
    from scipy.stats import binom

    few, enough = wins, rows - wins + 1
    # Most often few losses are enough: they are looked at first.
    likely = int(wins + rows * tolerance + 6 * math.sqrt(wins + rows * tolerance + 2))
    if likely < enough and _exact_tail(wins, likely, rows, tolerance) <= level:
        enough = likely
    while few + 1 < enough:
        middle = (few + enough) // 2
        if _exact_tail(wins, middle, rows, tolerance) <= level:
            enough = middle
        else:
            few = middle
    low, high = 0.0, 1.0 - wins / rows
    if enough > rows - wins or binom.sf(enough - 1, rows, high) < POWER:
        return 1.0
    for _ in range(20):
        half = (low + high) / 2
        low, high = (low, half) if binom.sf(enough - 1, rows, half) >= POWER else (half, high)
    return max(0.0, high - wins / rows)


@lru_cache(maxsize=1 << 16)
def _exact_tail(wins: int, losses: int, rows: int, tolerance: float) -> float:
    from scipy.stats import beta

    differing = wins + losses
    observed = float(_tango_score(np.array([losses]), np.array([differing]), rows, tolerance)[0])
    plain = 1 - NormalDist().cdf(observed)
    if plain > _PLAINLY_NO_LOSS:
        return plain
    low = beta.ppf(_OUTSIDE / 2, differing, rows - differing + 1)
    high = beta.ppf(1 - _OUTSIDE / 2, differing + 1, rows - differing) if differing < rows else 1.0
    low = max(float(low), tolerance)
    counts, least = _rejected(observed, rows, tolerance, low, float(high))
    shares = np.linspace(low, high, _GRID)
    chances = _chances(shares, counts, least, rows, tolerance)
    best, step = shares[int(chances.argmax())], shares[1] - shares[0]
    closer = np.clip(np.linspace(best - step, best + step, _GRID // 4), low, high)
    largest = max(chances.max(), _chances(closer, counts, least, rows, tolerance).max())
    return min(1.0, float(largest) + _OUTSIDE)


def _tango_score(
    losses: NDArray[np.int64], differing: NDArray[np.int64], rows: int, tolerance: float
) -> Floats:
    """Tango's score, with the share of wins estimated under the null."""
    wins = differing - losses
    linear = differing * (1 - tolerance) - 2 * wins * tolerance - 2 * (rows - differing) * tolerance
    root = np.sqrt(linear**2 + 8.0 * rows * wins * tolerance * (1 - tolerance))
    share = np.maximum((linear + root) / (4 * rows), 0.0)
    variance = rows * (2 * share + tolerance * (1 - tolerance))
    beyond = losses - wins - rows * tolerance
    return np.where(variance > 0, beyond / np.sqrt(np.where(variance > 0, variance, 1.0)), 0.0)


def _rejected(
    observed: float, rows: int, tolerance: float, low: float, high: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many images may differ, and the losses among them from which the score is at least the observed one."""
    from scipy.stats import binom

    counts = np.arange(int(binom.ppf(1e-9, rows, low)), int(binom.isf(1e-9, rows, high)) + 1, dtype=np.int64)
    least, beyond = np.zeros_like(counts), counts + 1
    while bool((open_ := least < beyond).any()):
        middle = (least + beyond) // 2
        reached = _tango_score(np.minimum(middle, counts), counts, rows, tolerance) >= observed - 1e-9
        beyond = np.where(open_ & reached, middle, beyond)
        least = np.where(open_ & ~reached, middle + 1, least)
    return counts, least


def _chances(
    shares: Floats, counts: NDArray[np.int64], least: NDArray[np.int64], rows: int, tolerance: float
) -> Floats:
    """Chance of a score as large, for each share of differing images [S], the loss being exactly the tolerance."""
    from scipy.stats import binom

    lost = np.minimum((1 + tolerance / shares) / 2, 1.0) if tolerance > 0 else np.full(len(shares), 0.5)
    so_many = binom.pmf(counts, rows, shares[:, None])
    found: Floats = (so_many * binom.sf(least - 1, counts, lost[:, None])).sum(axis=1)
    return found
