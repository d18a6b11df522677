"""Two models on the same images: their difference by group, for means and for mean average precision, and its
bounds.

Bounds are of the bootstrap over groups, or the normal approximation far in the tail. Average precision is no mean
over images: it ranks the answers of all of them. It is matched once; an image that counts w times then has weight w
(`images/box_metrics.py`). The linear part is what each group adds to the difference: its slope by the group's
weight (the infinitesimal jackknife; Efron 1982, "The Jackknife, the Bootstrap and Other Resampling Plans", 6),
taken on the area below the curve, since COCO's 101 steps have no slope (m: its standard error is within 4% of the
bootstrap's; with the steps it is off by up to 66%). Tests and formulas for means work on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from visionops_assets.evaluation.verdict import Bound
from visionops_assets.images.box_metrics import Matches, Weights, mean_average_precisions

Floats = NDArray[np.float64]
# With fewer draws than this beyond a level, a bootstrap quantile is noise.
LEAST_DRAWS_IN_TAIL = 50
# In one batch, 10,000 draws of 10,000 images take 2.5 GB and four times as long (m).
_DRAWS_AT_ONCE = 500
ByClass = Sequence[Sequence[Matches]]
# More groups are put together into so many units: their independent parts add up.
MOST_UNITS = 1000


@dataclass(frozen=True)
class PairedDifference:
    """How much better the challenger is, per group: float64 sums [groups] over int64 sizes [groups].

    Groups, not images, are drawn again and change sign: the frames of one session are one piece of evidence.
    """

    sums: Floats
    sizes: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of images."""
        return int(self.sizes.sum())

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.sums)

    @property
    def mean(self) -> float:
        """The mean difference per image, Δ."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def residuals(self) -> Floats:
        """What each group's sum departs from Δ times its size; all zero where nothing varies."""
        residuals = self.sums - self.mean * self.sizes
        return np.where(np.abs(residuals) < 1e-12 * max(1.0, float(np.abs(self.sums).max())), 0.0, residuals)


def paired_difference(differences: Floats, groups: NDArray[np.int64]) -> PairedDifference:
    """Gather float64 `differences` [rows], positive where the challenger is better, by group code [rows]."""
    _, codes = np.unique(groups, return_inverse=True)
    sums = np.bincount(codes, weights=differences).astype(np.float64)
    return PairedDifference(sums, np.bincount(codes).astype(np.int64))


def spread(differences: Floats, paired: PairedDifference) -> float:
    """The d of the labels formula: mean square of the difference per image.

    For accuracies it is the discordant share (g+l)/n. Where a group's images err together its sum counts as
    one, Σ(group sum)²/n, which is larger: such images bring less evidence each.
    """
    by_image = float(np.square(differences).sum())
    by_group = float(np.square(paired.sums).sum())
    return max(by_image, by_group) / paired.rows


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


@dataclass(frozen=True)
class PrecisionPair:
    """One piece of the holdout: both models' matches, one list of classes an overlap.

    `rows` [images] marks the images that belong to the piece, `groups` [images] their groups.
    """

    challenger: ByClass
    champion: ByClass
    rows: NDArray[np.bool_]
    groups: NDArray[np.int64]

    def differences(self, weights: Weights, *, smooth: bool = False) -> Floats:
        """Challenger less champion, for each row of weights [draws, images]; NaN where a draw has nothing to find."""
        ours, theirs = (
            mean_average_precisions(by_class, weights, smooth=smooth)
            for by_class in (self.challenger, self.champion)
        )
        return ours - theirs

    def linear(self) -> PairedDifference:
        """The difference as a sum over groups: a group's rows times Δ, plus what its weight changes."""
        units = self._units()
        members = units == np.arange(units.max() + 1)[:, None]
        sizes = members[:, self.rows].sum(axis=1)
        once = np.ones((1, len(units)), np.uint8)
        (delta,), (area,) = self.differences(once), self.differences(once, smooth=True)
        without, twice = (
            # Without the only image that has something to find, that side tells nothing.
            np.where(np.isfinite(side), side, area)
            for side in (
                self.differences((once + sign * members).astype(np.uint8), smooth=True) for sign in (-1, 1)
            )
        )
        slope = sizes.sum() * (twice - without) / 2
        slope -= sizes * slope.sum() / sizes.sum()
        counting = (sizes > 0) | (np.abs(slope) > 1e-12)
        return PairedDifference((delta * sizes + slope)[counting], sizes[counting])

    def drawn(self, draws: int, seed: int) -> Floats:
        """The difference in each bootstrap draw of groups, the same draw for both models; fewer where one is empty."""
        _, codes = np.unique(self.groups, return_inverse=True)
        count = codes.max() + 1
        times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
        found = self.differences(times.astype(np.uint8)[:, codes])
        return found[np.isfinite(found)]

    def _units(self) -> NDArray[np.int64]:
        _, codes = np.unique(self.groups, return_inverse=True)
        return codes % MOST_UNITS
