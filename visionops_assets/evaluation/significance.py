"""Tests of one-sided claims about paired models."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from visionops_assets.evaluation.paired import Floats, PairedDifference

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


def better(wins: int, losses: int, paired: PairedDifference, *, seed: int) -> float:
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
