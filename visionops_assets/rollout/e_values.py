"""Evidence against a candidate that may be looked at as often as one likes.

An e-value is a nonnegative number whose mean is at most 1 while the null hypothesis is true, now and given whatever was
seen. By Ville's inequality [1] the chance that it ever reaches 1/alpha is then at most alpha, at every look together.
All values here are logarithms, natural ones.

| | unit | null hypothesis | threshold |
| --- | --- | --- | --- |
| safety | a device | it fails with a chance of at most p0 | 50: 2% |
| silence | a pair of devices, one of them silent | each of them as likely as the other | 100: 1% |
| worse | a device in one block of time | the candidate is no worse: the mean of x is at most 0 | 50: 2% |
| no worse | the same | the candidate is worse by the margin or more: the mean of z is at least the margin | 20: 5% |

The first three end a rollout: together they do so wrongly in at most 5%.

[1] J. Ville, Etude critique de la notion de collectif, 1939. [2] I. Waudby-Smith, A. Ramdas, Estimating means of
bounded random variables by betting, JRSS B 86, 2024. [3] H. Robbins, Statistical methods related to the law of the
iterated logarithm, Ann. Math. Stat. 41, 1970: mixtures over the alternative.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SAFETY_AT, SILENCE_AT, WORSE_AT, NO_WORSE_AT = 50.0, 100.0, 50.0, 20.0
# Bets as a share of what may be lost at most [2]; the mean over them is an e-value, too.
_WORSE_BETS = np.linspace(0.02, 0.98, 25)
_NO_WORSE_BETS = np.linspace(0.05, 0.99, 20)

Floats = NDArray[np.float64]


def log_e_share(failed: ArrayLike, units: ArrayLike, share: float) -> Floats:
    """Evidence that units fail with a chance above `share`: `failed` of `units` did.

    The likelihood ratio against `share`, mixed over all chances above it, uniformly [3]. It rises with the chance of
    the alternative, so below `share` its mean is lower still. Shapes are broadcast.
    """
    from scipy.special import betaincc, betaln

    k, n = np.asarray(failed, float), np.asarray(units, float)
    with np.errstate(divide="ignore"):
        above = np.log(betaincc(k + 1, n - k + 1, share))
    found = (
        betaln(k + 1, n - k + 1) + above - np.log1p(-share) - k * np.log(share) - (n - k) * np.log1p(-share)
    )
    return np.asarray(found, float)


def log_e_pairs(lost: ArrayLike, discordant: ArrayLike) -> Floats:
    """Evidence that of two devices which differ the one with the candidate is the silent one: `lost` of `discordant`
    pairs. `log_e_share` at one half. Pairs of which both or neither are silent say nothing."""
    return log_e_share(lost, discordant, 0.5)


def log_e_worse(x: ArrayLike) -> Floats:
    """Evidence that the candidate does worse: x of a unit is the mean of +1 (only the base is right), -1 (only the
    candidate) and 0 over its labelled frames, in [-1, 1]. Over the last axis in the order in which units came, a value
    after each."""
    return _wealth(_WORSE_BETS, np.asarray(x, float))


def log_e_no_worse(z: ArrayLike, margin: float) -> Floats:
    """Evidence that the candidate is worse by less than `margin`: z of a unit is its share of frames that differ times
    x, in [-1, 1]. Over the last axis, a value after each unit."""
    return _wealth(_NO_WORSE_BETS / (1 - margin), margin - np.asarray(z, float))


def _wealth(bets: Floats, gains: Floats) -> Floats:
    """What constant bets on the gains have become, the mean over the bets."""
    from scipy.special import logsumexp

    each = np.cumsum(np.log1p(bets[:, None] * gains[..., None, :]), axis=-1)
    return np.asarray(logsumexp(each, axis=-2) - np.log(len(bets)), float)
