"""Whether a slice lost more than is tolerated, and how large a loss its images would show.

The null is "the loss is at most the tolerance". Of n images the champion alone gets l right and the challenger alone g;
the statistic is Tango's score of l − g against n times the tolerance (Tango 1998, "Equivalence test and confidence
interval for the difference in proportions for the paired-sample design"), and its p-value is exact and unconditional
(Hsueh, Liu & Chen 2001, "Unconditional exact tests for equivalence or noninferiority for paired binary endpoints"): the
largest over all shares of images that the models may differ on, among those that the found share leaves possible
(Berger & Boos 1994). McNemar's test has no such margin, and with few differing images less power.
"""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from visionops_assets.evaluation.paired import Floats, PairedDifference
from visionops_assets.evaluation.power import POWER
from visionops_assets.evaluation.significance import sign_flip

# Chance that the true share of differing images lies outside those that are searched; it is added to p.
_OUTSIDE = 1e-6
_GRID = 60
# Beyond this the exact p-value refuses nothing at any level in use, and the score's own is enough.
_PLAINLY_NO_LOSS = 0.3
_FEW_IMAGES = 300


def p_of_loss(wins: int, losses: int, paired: PairedDifference, *, tolerance: float, seed: int) -> float:
    """p-value of "at most `tolerance` of the images were lost".

    `paired` is challenger less champion. Images of one group err together: where a group has several, the larger of
    the exact p and that of flipping the signs of the groups' losses beyond the tolerance counts.
    """
    p = _exact(wins, losses, paired.rows, tolerance)
    if bool((paired.sizes == 1).all()) or p > _PLAINLY_NO_LOSS:
        return p
    return max(p, p_of_group_losses(paired, tolerance=tolerance, seed=seed))


def p_of_group_losses(paired: PairedDifference, *, tolerance: float, seed: int) -> float:
    """The same by groups alone, for any metric: chance of so large a total loss beyond the tolerance if each group's
    could as well have had the other sign (`significance.sign_flip`)."""
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
    if likely < enough and _exact(wins, likely, rows, tolerance) <= level:
        enough = likely
    while few + 1 < enough:
        middle = (few + enough) // 2
        if _exact(wins, middle, rows, tolerance) <= level:
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
def _exact(wins: int, losses: int, rows: int, tolerance: float) -> float:
    from scipy.stats import beta

    differing = wins + losses
    observed = float(_score(np.array([losses]), np.array([differing]), rows, tolerance)[0])
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


def _score(losses: NDArray[np.int64], differing: NDArray[np.int64], rows: int, tolerance: float) -> Floats:
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
        reached = _score(np.minimum(middle, counts), counts, rows, tolerance) >= observed - 1e-9
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
