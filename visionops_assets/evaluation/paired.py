"""Two models on the same images: their differences, gathered by group."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
