"""Bounds of a paired difference: bootstrap over groups, or the normal approximation far in the tail."""

from collections.abc import Callable
from functools import cached_property
from statistics import NormalDist

import numpy as np

from visionops_assets.evaluation.paired import Floats, PairedDifference
from visionops_assets.evaluation.verdict import Bound

# With fewer draws than this beyond a level, a bootstrap quantile is noise.
LEAST_DRAWS_IN_TAIL = 50
# In one batch, 10,000 draws of 10,000 images take 2.5 GB and four times as long (m).
_DRAWS_AT_ONCE = 500


class DifferenceBounds:
    """One-sided bounds of one paired difference at any number of levels, from one set of draws.

    `drawn` gives the difference in each draw where it is no mean over images; the paired difference then holds its
    linear part, which the acceleration and the normal approximation need.
    """

    def __init__(
        self, paired: PairedDifference, *, draws: int, seed: int, drawn: Callable[[], Floats] | None = None
    ) -> None:
        self._paired = paired
        self._draws = draws
        self._seed = seed
        self._drawn = drawn

    def at(self, level: float) -> tuple[Bound, Bound] | None:
        """The lower and the upper bound, each wrong with chance `level`; None for fewer than two groups.

        BCa (Efron 1987, "Better bootstrap confidence intervals"): both together are the two-sided interval of
        `scipy.stats.bootstrap` at 1 − 2·level. Where all groups agree there is nothing to draw: both bounds are
        the difference itself (scipy gives NaN).
        """
        paired = self._paired
        if paired.groups < 2:
            return None
        if not paired.residuals.any():
            exact = Bound(value=paired.mean, level=level, method="constant")
            return exact, exact
        if level * self._draws < LEAST_DRAWS_IN_TAIL:
            return normal_bounds(paired, level)
        low, high = self._bca(level)
        if not np.isfinite([low, high]).all():
            return normal_bounds(paired, level)
        return (
            Bound(value=low, level=level, method="bca"),
            Bound(value=high, level=level, method="bca"),
        )

    @cached_property
    def _distribution(self) -> Floats:
        from scipy.stats import bootstrap

        if self._drawn is not None:
            return self._drawn()
        paired = self._paired
        # The mean over single images needs half the gathering that a ratio of sums does.
        single = bool((paired.sizes == 1).all())
        data = (paired.sums,) if single else (paired.sums, paired.sizes.astype(np.float64))
        result = bootstrap(
            data,
            np.mean if single else _ratio,
            paired=not single,
            vectorized=True,
            n_resamples=self._draws,
            batch=_DRAWS_AT_ONCE,
            method="percentile",
            rng=np.random.default_rng(self._seed),
        )
        found: Floats = result.bootstrap_distribution
        return found

    def _bca(self, level: float) -> tuple[float, float]:
        """Efron & Tibshirani, "An Introduction to the Bootstrap", 14.3.

        scipy's own BCa computes the jackknife by gathering n² numbers; for a ratio of sums it is a formula.
        """
        from scipy.special import ndtr, ndtri

        paired, drawn = self._paired, self._distribution
        below, up_to = (drawn < paired.mean).mean(), (drawn <= paired.mean).mean()
        bias = ndtri((below + up_to) / 2)
        left_out = (paired.sums.sum() - paired.sums) / (paired.sizes.sum() - paired.sizes)
        influence = left_out.mean() - left_out
        acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
        reach = bias + ndtri(np.array([level, 1 - level]))
        low, high = np.quantile(drawn, ndtr(bias + reach / (1 - acceleration * reach)))
        return float(low), float(high)


def normal_bounds(paired: PairedDifference, level: float) -> tuple[Bound, Bound]:
    """Δ ∓ z·s, with s the standard error of a ratio of group sums (Cochran, "Sampling Techniques", 6.4).

    s² = G/(G−1) · Σ(sum − Δ·size)² / n², over G ≥ 2 groups and n images.
    """
    error = np.sqrt(paired.groups / (paired.groups - 1) * np.square(paired.residuals).sum()) / paired.rows
    reach = NormalDist().inv_cdf(1 - level) * float(error)
    return (
        Bound(value=paired.mean - reach, level=level, method="normal"),
        Bound(value=paired.mean + reach, level=level, method="normal"),
    )


def _ratio(sums: np.ndarray, sizes: np.ndarray, axis: int = -1) -> np.ndarray:
    found: np.ndarray = sums.sum(axis=axis) / sizes.sum(axis=axis)
    return found
