"""Copies among images of one scene: what shares more than the scene.

Exposures of one part under one camera correlate above 0.99, as copies do. But all of them are about equally far from
each other in their details (`details.py`), where a copy is much nearer. So the distance to a neighbour (1 less the
likeness of details) is compared with that to a fourth nearest: far enough that a copy or two do not count, near enough
to be of the same position where a camera that shakes makes scenes within the scene. It is the least of the image's own
and its neighbours' fourth, and of what is usual among all, since a position may be a rare one. Where nothing has so
many neighbours, a fixed likeness decides; one that exposures never reach is always a copy.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visionops_assets.dataset.decode import Pixels
from visionops_assets.dataset.details import LEVELS, VALUES, details_of, smallest

Load = Callable[[Sequence[int]], Iterator[tuple[int, Pixels]]]

# Neighbours that are kept of each image, and the rank of the one that the others are compared with.
KEPT, COMPARED_WITH = 24, 4
# By level: a copy is within this share of the distance to that one, or so alike; without that one, at least so alike.
NEARER = {128: 0.6, 64: 0.5}
ALWAYS = {128: 0.97, 64: 0.995}
ALIKE = {128: 0.69, 64: 0.9}

_PAIRS_AT_ONCE = 1 << 12
# Of the distances to the fourth nearest, the one that stands for all.
_USUAL = 0.1


class Details:
    """The details of images by number and level, made when they are first asked for, in files without a name, which go
    with the process, killed or not."""

    def __init__(self, pixels: Sequence[int] | NDArray[np.int64], load: Load, at_once: int) -> None:
        """`pixels` is the size of each image, `at_once` that of those that are loaded together."""
        self._load, self._at_once, count = load, at_once, len(pixels)
        self._pixels = np.asarray(pixels, np.int64)
        # Of each image the largest level that it has; 0 where it has none; 255 where it was not looked at.
        self.levels = np.where(self._pixels < smallest(), 0, 255).astype(np.uint8)
        self._vectors: dict[int, NDArray[np.int8]] = {}
        for level in LEVELS if count else ():
            with tempfile.TemporaryFile(prefix="visionops-details-") as file:
                self._vectors[level] = np.memmap(file, np.int8, "w+", shape=(count, VALUES))

    def prepare(self, numbers: NDArray[np.int64]) -> None:
        """Look at those that were not looked at yet; what `load` leaves out has no details."""
        missing = np.unique(numbers[self.levels[numbers] == 255])
        portion = np.cumsum(self._pixels[missing]) // self._at_once
        for number in np.unique(portion):
            part = missing[portion == number].tolist()
            self.levels[part] = 0
            for number, pixels in self._load(part):
                found = details_of(pixels[..., 0])
                for level, vector in found.items():
                    self._vectors[level][number] = vector
                self.levels[number] = max(found, default=0)

    def likeness(self, ones: NDArray[np.int64], others: NDArray[np.int64], level: int) -> NDArray[np.float32]:
        """The likeness of pairs (P,) on a level that both have."""
        found = np.empty(len(ones), np.float32)
        for start in range(0, len(ones), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            a, b = self.unit(ones[part], level), self.unit(others[part], level)
            found[part] = np.einsum("ij,ij->i", a, b)
        return found

    def unit(self, numbers: NDArray[np.int64], level: int) -> NDArray[np.float32]:
        """The details of images as vectors of length 1, (N, 1024)."""
        values = np.asarray(self._vectors[level][numbers]).astype(np.float32)
        return values / np.sqrt(np.einsum("ij,ij->i", values, values))[:, None]


@dataclass
class Neighbours:
    """The nearest of N images on one level: `numbers` int32 (N, KEPT), -1 where there are fewer, and `likeness`."""

    count: int
    level: int
    numbers: NDArray[np.int32] = field(init=False)
    likeness: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = np.full((self.count, KEPT), -1, np.int32)
        self.likeness = np.full((self.count, KEPT), -np.inf, np.float32)

    def add(self, ones: NDArray[np.int64], others: NDArray[np.int64], likeness: NDArray[np.float32]) -> None:
        """Look at pairs (P,), each pair once."""
        rows, numbers = np.concatenate([ones, others]), np.concatenate([others, ones])
        alike = np.concatenate([likeness, likeness])
        nearer = alike > self.likeness[rows, -1]
        rows, numbers, alike = rows[nearer], numbers[nearer], alike[nearer]
        touched = np.unique(rows)
        old = self.numbers[touched] >= 0
        rows = np.concatenate([np.repeat(touched, old.sum(axis=1)), rows])
        numbers = np.concatenate([self.numbers[touched][old], numbers])
        alike = np.concatenate([self.likeness[touched][old], alike])
        # By number where equally near, so that the order in which they are looked at does not matter.
        order = np.lexsort((numbers, -alike, rows))
        rows, numbers, alike = rows[order], numbers[order], alike[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = rank < KEPT
        self.numbers[rows[kept], rank[kept]] = numbers[kept]
        self.likeness[rows[kept], rank[kept]] = alike[kept]

    def add_block(
        self, ones: NDArray[np.int64], others: NDArray[np.int64], maybe: NDArray[np.bool_], details: Details
    ) -> None:
        """Look at the pairs that `maybe` (N, M) has of images `ones` (N,) and `others` (M,)."""
        products = details.unit(ones, self.level) @ details.unit(others, self.level).T
        np.copyto(products, -np.inf, where=~maybe)
        # Of each image the nearest of this block are enough.
        of_ones = np.maximum(self.likeness[ones, -1], _least_kept(products))
        of_others = np.maximum(self.likeness[others, -1], _least_kept(products.T))
        rows, columns = np.nonzero(maybe & ((products >= of_ones[:, None]) | (products >= of_others)))
        self.add(ones[rows], others[columns], products[rows, columns])

    def copies(self) -> list[tuple[int, int]]:
        """The pairs of copies (newer, older), in order."""
        distance = np.maximum(1 - self.likeness, 0)
        crowded = self.numbers[:, COMPARED_WITH - 1] >= 0
        fourth = np.where(crowded, distance[:, COMPARED_WITH - 1], np.inf)
        about = np.where(self.numbers >= 0, fourth[self.numbers], np.inf).min(axis=1)
        reference = np.minimum(fourth, about)
        if crowded.any():
            # One that has few neighbours is of a rare position of the scenes there are.
            reference = np.minimum(reference, np.quantile(fourth[crowded], _USUAL))
        nearer = np.maximum(NEARER[self.level] * reference, 1 - ALWAYS[self.level])
        limit = np.where(np.isfinite(reference), nearer, 1 - ALIKE[self.level]).astype(np.float32)
        rows, ranks = np.nonzero((self.numbers >= 0) & (distance <= limit[:, None]))
        others = self.numbers[rows, ranks]
        return sorted({(max(pair), min(pair)) for pair in zip(rows.tolist(), others.tolist(), strict=True)})


def _least_kept(products: NDArray[np.float32]) -> NDArray[np.float32]:
    """The least of the `KEPT` largest of each row (N, M); any where there are no more."""
    if products.shape[1] <= KEPT:
        return np.full(len(products), -np.inf, np.float32)
    return np.partition(products, -KEPT, axis=1)[:, -KEPT]


def share_more_than_a_scene(
    ones: NDArray[np.int64], others: NDArray[np.int64], details: Details
) -> NDArray[np.bool_]:
    """Of pairs of images (P,), each pair once: those that are no mere exposures of one scene, or have no details."""
    details.prepare(np.concatenate([ones, others]))
    levels = np.minimum(details.levels[ones], details.levels[others])
    more = levels == 0
    for level in LEVELS:
        here = np.flatnonzero(levels == level)
        if not len(here):
            continue
        neighbours = Neighbours(len(details.levels), level)
        neighbours.add(ones[here], others[here], details.likeness(ones[here], others[here], level))
        copies = set(neighbours.copies())
        pairs = zip(
            np.maximum(ones, others)[here].tolist(), np.minimum(ones, others)[here].tolist(), strict=True
        )
        more[here] = [pair in copies for pair in pairs]
    return more
