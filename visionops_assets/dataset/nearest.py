"""The most alike of many images, of each image so many, however many pairs are looked at."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_FIRST = 256


@dataclass
class Nearest:
    """The nearest of `count` images, for those R images that have any: `numbers` int32 (R, kept), -1 where there are
    fewer, and `likeness`; `rows` is where each image stands in these, -1 where it does not."""

    count: int
    kept: int
    rows: NDArray[np.int32] = field(init=False)
    images: NDArray[np.int64] = field(init=False)
    numbers: NDArray[np.int32] = field(init=False)
    likeness: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = np.full(self.count, -1, np.int32)
        self.images = np.zeros(0, np.int64)
        self.numbers, self.likeness = self._empty(_ROWS_AT_FIRST)

    def add(self, ones: NDArray[np.int64], others: NDArray[np.int64], likeness: NDArray[np.float32]) -> None:
        """Look at pairs (P,), each pair once."""
        numbers, alike = np.concatenate([others, ones]), np.concatenate([likeness, likeness])
        rows = self._rows_of(np.concatenate([ones, others]))
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
        kept = rank < self.kept
        self.numbers[rows[kept], rank[kept]] = numbers[kept]
        self.likeness[rows[kept], rank[kept]] = alike[kept]

    def add_block(
        self,
        ones: NDArray[np.int64],
        others: NDArray[np.int64],
        alike: NDArray[np.float32],
        maybe: NDArray[np.bool_],
    ) -> None:
        """Look at the pairs that `maybe` (N, M) has of images `ones` (N,) and `others` (M,), of a likeness (N, M)."""
        if not maybe.all():
            alike = np.where(maybe, alike, -np.inf)
        # Of each image the nearest of this block are enough.
        at_ones, at_others = self._rows_of(ones), self._rows_of(others)
        of_ones = self._least_kept(self.likeness[at_ones, -1], alike)
        of_others = self._least_kept(self.likeness[at_others, -1], alike.T)
        near = alike >= of_ones[:, None]
        near |= alike >= of_others
        near &= maybe
        rows, columns = np.divmod(np.flatnonzero(near), len(others))
        self.add(ones[rows], others[columns], alike[rows, columns])

    def of(self, image: int) -> NDArray[np.int32]:
        """The neighbours of an image, the most alike first."""
        row = self.rows[image]
        return self.numbers[row][self.numbers[row] >= 0] if row >= 0 else self.numbers[:0, 0]

    def _rows_of(self, images: NDArray[np.int64]) -> NDArray[np.int32]:
        """Where images stand, with room made for those that did not yet."""
        new = np.unique(images[self.rows[images] < 0])
        if len(new):
            self.rows[new] = np.arange(len(self.images), len(self.images) + len(new))
            self.images = np.concatenate([self.images, new])
            if len(self.images) > len(self.numbers):
                more = self._empty(max(len(self.images) - len(self.numbers), len(self.numbers)))
                self.numbers = np.concatenate([self.numbers, more[0]])
                self.likeness = np.concatenate([self.likeness, more[1]])
        return self.rows[images]

    def _empty(self, rows: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return np.full((rows, self.kept), -1, np.int32), np.full((rows, self.kept), -np.inf, np.float32)

    def _least_kept(self, known: NDArray[np.float32], products: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is kept of each row (N, M), whose neighbours are `known` down to this, (N,), is no less."""
        # Of most rows, those that are known leave so few that a look at all would take longer.
        if products.shape[1] <= self.kept or np.isfinite(known).all():
            return known
        return np.maximum(known, np.partition(products, -self.kept, axis=1)[:, -self.kept])
