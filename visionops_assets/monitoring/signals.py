"""What is watched for drift, of the inference log or of a reference: one row an image.

How far a day's embeddings are from the reference's is their maximum mean discrepancy (Gretton et al. 2012, "A
Kernel Two-Sample Test", the biased estimate), with a Gaussian kernel of the median distance. Its effect has a
meaning: a day of which a share ε is wholly unlike the reference is about ε away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.images import statistics
from visionops_assets.monitoring.monitoring_task import monitoring_task

STATISTICS = statistics.STATISTICS
NO_BOX = "no box"
# A detector answers with many boxes of less, as many on every image: they are no part of what it says is there.
LEAST_SCORE = 0.25
Floats = NDArray[np.float64]
_EMBEDDING_DRAWS = 4_000


def image_statistics(pixels: NDArray[np.uint8], sizes: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """One row an image, columns `STATISTICS` (float64), as `edge.images.statistics` measures them.

    Raises ValueError where sizes and images differ in number.
    """
    if len(pixels) != len(sizes):
        raise ValueError(f"{len(pixels)} images need as many sizes, not {len(sizes)}")
    if not len(pixels):
        return pd.DataFrame(np.empty((0, len(STATISTICS))), columns=list(STATISTICS))
    return pd.DataFrame(statistics.image_statistics(pixels, sizes), columns=list(STATISTICS))


# What a detector says of an image, as numbers; and the class of one of its boxes.
BOXES, SCORE, AREA, BOX_CLASS = "boxes_an_image", "mean_score", "box_area", "box_class"


def numeric_signals(task: str) -> tuple[str, ...]:
    """Names of the watched columns that are numbers."""
    return (*STATISTICS, *monitoring_task(task).numbers)


def categorical_signal(task: str) -> str:
    """Name of the watched column that is a class."""
    return monitoring_task(task).category


def watched_columns(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """The watched columns of rows of the log, in its order: numbers as float64, infinite ones as missing.

    In detection boxes count from `LEAST_SCORE` on; `mean_score` and `box_area` (the mean share of the image that a box
    covers) are missing where there is none. `box_class` is the class of one box an image, chosen by the image's
    digest: the classes of all boxes in their proportions, with images, not boxes, as the independent pieces.
    """
    found = rows[list(STATISTICS)].astype(np.float64)
    found = found.assign(**monitoring_task(task).watched(rows))
    numbers = list(numeric_signals(task))
    found[numbers] = found[numbers].replace([np.inf, -np.inf], np.nan)
    return found.reset_index(drop=True)


def embeddings(rows: pd.DataFrame) -> NDArray[np.float64]:
    """The embeddings [N, D] of rows that have one, all finite, of the most frequent width; [0, 0] where none has."""
    vectors = [np.asarray(vector, np.float64) for vector in rows["embedding"] if vector is not None]
    widths = [len(vector) for vector in vectors]
    if not widths or not max(widths):
        return np.empty((0, 0))
    width = int(np.bincount(widths).argmax())
    stacked = np.stack([vector for vector in vectors if len(vector) == width])
    return stacked[np.isfinite(stacked).all(axis=1)]


# More rows than these are thinned evenly: the kernel has one number a pair.
_MOST_REFERENCE, _MOST_CURRENT = 500, 2_000


@dataclass(frozen=True)
class EmbeddingReference:
    """The reference's embeddings float64 [M, D], at least two that differ."""

    vectors: Floats

    def distance(self, vectors: Floats) -> float:
        """The discrepancy between the reference and embeddings [N, D] of the same width, N at least 1."""
        current = self._scaled(thinned_embeddings(vectors, _MOST_CURRENT))
        within = self._kernel(current, current).mean()
        across = self._kernel(current, self._points).mean()
        return float(np.sqrt(max(self._own.mean() + within - 2 * across, 0.0)))

    def by_chance(self, rows: int, quantile: float, seed: int = 0) -> float:
        """The quantile of the discrepancy between samples of one population, of the reference's size and of `rows`."""
        random, size = np.random.default_rng(seed), len(self._points)
        shares, drawn = np.full(size, 1 / size), min(rows, _MOST_CURRENT)
        difference = (
            random.multinomial(size, shares, _EMBEDDING_DRAWS) / size
            - random.multinomial(drawn, shares, _EMBEDDING_DRAWS) / drawn
        )
        squared = ((difference @ self._own) * difference).sum(axis=1)
        return float(np.quantile(np.sqrt(np.maximum(squared, 0.0)), quantile))

    def nearest(self, vectors: Floats) -> Floats:
        """The distance of each of the embeddings [N, D] to the nearest of the reference, in its deviations [N]."""
        found: Floats = np.sqrt(_squared_distances(self._scaled(vectors), self._points).min(axis=1))
        return found

    @cached_property
    def _chosen(self) -> Floats:
        return thinned_embeddings(self.vectors, _MOST_REFERENCE)

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


def thinned_embeddings(rows: Floats, most: int) -> Floats:
    """At most so many rows, spread evenly."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _squared_distances(one: Floats, other: Floats) -> Floats:
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    found: Floats = np.maximum(squares, 0.0)
    return found
