"""How far a day's embeddings are from the reference's: maximum mean discrepancy (Gretton et al. 2012, "A Kernel
Two-Sample Test", the biased estimate), with a Gaussian kernel of the median distance.

Its effect has a meaning: a day of which a share ε is wholly unlike the reference is about ε away.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# More rows than these are thinned evenly: the kernel has one number a pair.
_MOST_REFERENCE, _MOST_CURRENT = 500, 2_000
_DRAWS = 4_000


@dataclass(frozen=True)
class EmbeddingReference:
    """The reference's embeddings float64 [M, D], at least two that differ."""

    vectors: Floats

    def distance(self, vectors: Floats) -> float:
        """The discrepancy between the reference and embeddings [N, D] of the same width, N at least 1."""
        current = self._scaled(thinned(vectors, _MOST_CURRENT))
        within = self._kernel(current, current).mean()
        across = self._kernel(current, self._points).mean()
        return float(np.sqrt(max(self._own.mean() + within - 2 * across, 0.0)))

    def by_chance(self, rows: int, quantile: float, seed: int = 0) -> float:
        """The quantile of the discrepancy between samples of one population, of the reference's size and of `rows`."""
        random, size = np.random.default_rng(seed), len(self._points)
        shares, drawn = np.full(size, 1 / size), min(rows, _MOST_CURRENT)
        difference = (
            random.multinomial(size, shares, _DRAWS) / size
            - random.multinomial(drawn, shares, _DRAWS) / drawn
        )
        squared = ((difference @ self._own) * difference).sum(axis=1)
        return float(np.quantile(np.sqrt(np.maximum(squared, 0.0)), quantile))

    def nearest(self, vectors: Floats) -> Floats:
        """The distance of each of the embeddings [N, D] to the nearest of the reference, in its deviations [N]."""
        found: Floats = np.sqrt(_squared_distances(self._scaled(vectors), self._points).min(axis=1))
        return found

    @cached_property
    def _chosen(self) -> Floats:
        return thinned(self.vectors, _MOST_REFERENCE)

    @cached_property
    def _points(self) -> Floats:
        return self._scaled(self._chosen)

    @cached_property
    def _own(self) -> Floats:
        return self._kernel(self._points, self._points)

    @cached_property
    def _bandwidth(self) -> float:
        squared = _squared_distances(self._points, self._points)
        return float(np.median(squared[np.triu_indices(len(squared), 1)])) or 1.0

    def _scaled(self, vectors: Floats) -> Floats:
        deviation = self._chosen.std(axis=0)
        found: Floats = (vectors - self._chosen.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1.0)
        return found

    def _kernel(self, one: Floats, other: Floats) -> Floats:
        return np.exp(-_squared_distances(one, other) / self._bandwidth)


def thinned(rows: Floats, most: int) -> Floats:
    """At most so many rows, spread evenly."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _squared_distances(one: Floats, other: Floats) -> Floats:
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    found: Floats = np.maximum(squares, 0.0)
    return found
