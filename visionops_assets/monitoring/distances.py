"""Distances between a reference and a day, and how large chance alone makes them.

Distances have a stated effect size and do not shrink with more rows, as p-values do. Chance is measured by drawing
both sides again from the reference, at their own sizes: with the reference held fixed, a reference smaller than the
day alarms by its own sampling error (docs/drift.md has the numbers).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Evidently's floor of the norm, so that a constant column does not divide by zero.
_SMALLEST_NORM = 0.001
# A reference of more distinct values is put into so many equal shares before it is drawn from.
_MOST_ATOMS = 64
# Four of them lie beyond the quantile of 99.9%.
_DRAWS = 4_000
_DRAWS_AT_ONCE = 1_000


def normed_wasserstein(reference: Floats, current: Floats) -> float:
    """First Wasserstein distance in standard deviations of the reference; both finite and not empty."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(reference, current)) / _norm(reference)


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Jensen-Shannon distance (natural logarithm) of two counts over the same categories [K], neither all zero."""
    return float(_jensen_shannon(reference / reference.sum(), current / current.sum()))


def wasserstein_by_chance(reference: Floats, rows: int, quantile: float, seed: int = 0) -> float:
    """The quantile of `normed_wasserstein` between samples of one population, of the reference's size and of `rows`."""
    atoms, sizes = np.unique(reference, return_counts=True)
    if len(atoms) > _MOST_ATOMS:
        parts = np.array_split(np.sort(reference), _MOST_ATOMS)
        atoms, sizes = np.array([part.mean() for part in parts]), np.array([len(part) for part in parts])
    gaps, norm = np.diff(atoms), _norm(reference)

    def distance(one: Floats, other: Floats) -> Floats:
        return np.abs(np.cumsum(one - other, axis=1)[:, :-1]) @ gaps / norm

    return _by_chance(sizes, rows, quantile, distance, seed)


def jensen_shannon_by_chance(reference: Counts, rows: int, quantile: float, seed: int = 0) -> float:
    """The quantile of `jensen_shannon` between samples of one population, of the reference's size and of `rows`."""
    return _by_chance(reference, rows, quantile, _jensen_shannon, seed)


def _by_chance(
    sizes: Counts, rows: int, quantile: float, distance: Callable[[Floats, Floats], Floats], seed: int
) -> float:
    """`sizes` [K] counts the reference's rows at each atom; `distance` takes shares [draws, K] of both sides."""
    random, total = np.random.default_rng(seed), int(sizes.sum())
    shares = sizes / total
    found = [
        distance(
            random.multinomial(total, shares, _DRAWS_AT_ONCE) / total,
            random.multinomial(rows, shares, _DRAWS_AT_ONCE) / rows,
        )
        for _ in range(_DRAWS // _DRAWS_AT_ONCE)
    ]
    return float(np.quantile(np.concatenate(found), quantile))


def _norm(reference: Floats) -> float:
    return max(float(np.std(reference)), _SMALLEST_NORM)


def _jensen_shannon(one: Floats, other: Floats) -> Floats:
    """Of shares [..., K]: the root of the mean divergence from their mean (Endres & Schindelin 2003)."""
    from scipy.special import rel_entr

    middle = (one + other) / 2
    divergence = (rel_entr(one, middle) + rel_entr(other, middle)).sum(axis=-1) / 2
    found: Floats = np.sqrt(np.maximum(divergence, 0.0))
    return found
