"""How alike images are: by fine details, by what they show at a small size, and the most alike of many.

Details are what two exposures of one scene do not share: those between σ 0.7 and 3 pixels, divided by the strength
of the details around them, so that the noise of a flat spot weighs as much as the edge of a part. An image is
looked at at 64×64 pixels, and at 128×128 where it is large enough, each at 32×32 places, as whole numbers below
128, so that a product of two vectors is exact in float32. All filters count in whole numbers that float32 holds
exactly, hence the same vectors on every machine.

Miniatures: a copy differs from its original a little everywhere, another image much somewhere: so what is left of
one when the other is fitted to it counts by its fourth power. The fit takes up what encoders, resizing filters and
photo editors change: contrast, a bend of the tone curve, and sharpness.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.images.decode import Pixels

# Sides at which an image is looked at, the larger first.
DETAIL_LEVELS = (128, 64)

_PLACES = 32
# A level is at most this many times the shorter side.
_LARGER = 1.5
_COARSE, _AROUND = 3.0, 2.0
_FINE = 0.7
_FILTER_UNIT = 1 << 9
# Grey values are counted in sixteenths.
_GREY_UNIT = 16
# Details of half a grey value count half.
_FAINT = 0.5 * _GREY_UNIT
# Root mean square of a normal distribution by its mean absolute value.
_STRENGTH = 1.25
_NO_DETAILS = 0.25
_DETAIL_STEPS = 32.0
# Beyond this many times the level an image is first reduced by whole pixels.
_REDUCED_TO = 4
# Sides that images are brought to; an image has those that are no larger than its shorter side.
MINIATURE_SIDES = (32, 16, 8, 6)
# Of the values: steps in a standard deviation of the image.
_MINIATURE_STEPS = 24.0
_GREY_SPREAD = 16
# Grey values that differ less, as their standard deviation, show nothing.
_PLAIN = 0.5
_PAIRS_AT_ONCE = 1 << 7
# Of the variance; keeps the fit of two equal regressors solvable.
_RIDGE = 1e-6
_ROWS_AT_FIRST = 256


def details_of(grey: Pixels) -> dict[int, NDArray[np.int8]]:
    """The details of a grey image (H, W) by level, int8 (1024,); none where it is small or shows nothing."""
    found = {}
    for level in DETAIL_LEVELS:
        if level <= _LARGER * min(grey.shape):
            vector = _details(grey, level)
            if vector is None:
                return {}
            found[level] = vector
    return found


def _details(grey: Pixels, level: int) -> NDArray[np.int8] | None:
    image = np.rint(brought_to(grey, level, Image.Resampling.BILINEAR) * _GREY_UNIT).astype(np.float32)
    step = level // _PLACES
    places = slice(step // 2, None, step)
    details, strength = _strength(image, places)
    relative = details[places, places] / (strength * _STRENGTH + _FAINT)
    if np.sqrt(np.mean(relative * relative, dtype=np.float64)) < _NO_DETAILS:
        return None
    return np.clip(np.rint(relative * _DETAIL_STEPS), -127, 127).astype(np.int8).ravel()


def _strength(image: NDArray[np.float32], places: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The details of an image in sixteenths of grey, and how strong they are at the places in either direction."""
    side = len(image)
    coarse, fine, around = (_gaussian(side, sigma) for sigma in (_COARSE, _FINE, _AROUND))
    details = _filtered(image - _filtered(image, coarse, coarse), fine, fine)
    return details, _filtered(np.abs(details), around[places], around[places])


def brought_to(grey: Pixels, side: int, how: Image.Resampling) -> NDArray[np.float32]:
    """A grey image (H, W) as a square of this side, reduced first where it is much larger."""
    if grey.shape == (side, side):
        return grey.astype(np.float32)
    image = Image.fromarray(np.ascontiguousarray(grey))
    by = min(grey.shape) // (_REDUCED_TO * side)
    image = (image.reduce(by) if by > 1 else image).convert("F")
    return np.asarray(image.resize((side, side), how))


@cache
def _gaussian(side: int, sigma: float) -> NDArray[np.float32]:
    """A Gaussian filter as a matrix (side, side) whose rows sum to `_FILTER_UNIT`, mirrored at the edges."""
    here = np.arange(side)
    weights = np.sum(
        [
            np.exp(-0.5 * ((here[:, None] - there) / sigma) ** 2)
            for there in (here, -1 - here, 2 * side - 1 - here)
        ],
        axis=0,
    )
    whole = np.rint(weights / weights.sum(axis=1, keepdims=True) * _FILTER_UNIT)
    whole[here, here] += _FILTER_UNIT - whole.sum(axis=1)
    found: NDArray[np.float32] = whole.astype(np.float32)
    return found


def _filtered(
    image: NDArray[np.float32], down: NDArray[np.float32], across: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.rint(np.rint(down @ image / _FILTER_UNIT) @ across.T / _FILTER_UNIT)


def miniatures_of(grey: Pixels) -> dict[int, NDArray[np.int8]]:
    """The miniatures of a grey image (H, W) by side, int8 (side²,); none where it is tiny or plain."""
    found = {}
    for side in MINIATURE_SIDES:
        if side <= min(grey.shape):
            small = np.rint(brought_to(grey, side, Image.Resampling.LANCZOS) * _GREY_SPREAD)
            small -= np.rint(small.mean(dtype=np.float64))
            deviation = np.sqrt(np.mean(small * small, dtype=np.float64))
            if deviation < _PLAIN * _GREY_SPREAD:
                return {}
            found[side] = (
                np.clip(np.rint(small * (_MINIATURE_STEPS / deviation)), -127, 127).astype(np.int8).ravel()
            )
    return found


def miniature_differences(ones: NDArray[np.int8], others: NDArray[np.int8]) -> NDArray[np.float64]:
    """How far pairs of miniatures (P, side²) are apart, in standard deviations of the image, (P,)."""
    found = np.empty(len(ones))
    for start in range(0, len(ones), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        a, b = (_normalised(values[part]) for values in (ones, others))
        # The plainer of two would fit the richer one less well than the other way round.
        found[part] = np.maximum(_left_of_fit(a, b), _left_of_fit(b, a))
    return found


def _normalised(values: NDArray[np.int8]) -> NDArray[np.float64]:
    centred = values - values.mean(axis=1, keepdims=True)
    found: NDArray[np.float64] = centred / np.sqrt(np.mean(centred * centred, axis=1, keepdims=True))
    return found


def _left_of_fit(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The root of the mean fourth power of what is left of `b` (P, V) when `a` is fitted to it."""
    terms = np.stack([a, _four_neighbours(a), a * a], axis=1)
    terms -= terms.mean(axis=2, keepdims=True)
    products = terms @ terms.transpose(0, 2, 1) + _RIDGE * a.shape[1] * np.eye(3)
    weights = np.linalg.solve(products, terms @ b[:, :, None])
    rest = b - np.einsum("pt,ptv->pv", weights[..., 0], terms)
    rest *= rest
    found: NDArray[np.float64] = np.mean(rest * rest, axis=1) ** 0.25
    return found


def _four_neighbours(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the four neighbours of each value, the edge repeated."""
    side = round(values.shape[1] ** 0.5)
    image = np.pad(values.reshape(-1, side, side), ((0, 0), (1, 1), (1, 1)), mode="edge")
    total = image[:, 1:-1, :-2] + image[:, 1:-1, 2:] + image[:, :-2, 1:-1] + image[:, 2:, 1:-1]
    return (total / 4).reshape(len(values), -1)


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
