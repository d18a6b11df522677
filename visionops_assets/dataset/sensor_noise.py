"""Whether two images of one size are different exposures: whether either has noise of its own.

A sensor's noise is another in each exposure, and in every pixel; a copy has that of its original, or less of it where
it was encoded. So where nothing else is shown, the second differences of two exposures do not correlate, of however
many they are, which needs no scene to be known. What is told are exposures with as much noise as each other: an encoder
that takes noise away leaves less, or some of it.

Second differences across and down leave nothing of a plane (Immerkær, "Fast noise variance estimation", 1996). Where a
texture that does not move is left, it is what other exposures have there too: their mean is fitted to both. Of `n` that
is a share of its own noise, 1/n of that of one, which both then have and which is counted off.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter

from edge.images.decode import Pixels

# Pixels a side that are looked at, from the middle, and the share of these where least is shown.
_SIDE, _FLAT = 256, 0.3
_ENOUGH = 50
# Of noise, as its standard deviation: less is that of rounding, and exposures of one scene differ by no more than this.
_LEAST, _AS_MUCH = 0.6, 0.5
# Copies that kept as much noise correlate by more.
_INDEPENDENT = 0.3
# A standard deviation of a normal distribution by its median absolute value.
_DEVIATIONS = 1.4826


def different_exposures(one: Pixels, other: Pixels, others: Sequence[Pixels]) -> bool:
    """Whether grey images (H, W) of one size have noise that is independent; `others` are of their scene, if any are
    known. Of images without noise, or where it cannot be told from what they show, nothing says so."""
    if one.shape != other.shape or min(one.shape) < 8:
        return False
    a, b = _middle(one), _middle(other)
    flat = _flat(a, b)
    if flat is None:
        return False
    x, y = _second_differences(a)[flat], _second_differences(b)[flat]
    if not _as_noisy(x, y):
        return False
    if _correlation(x, y) <= _INDEPENDENT:
        return True
    alike = [_second_differences(_middle(each))[flat] for each in others if each.shape == one.shape]
    return len(alike) > 1 and _independent_without(np.mean(alike, axis=0), len(alike), x, y)


def _as_noisy(x: NDArray[np.float32], y: NDArray[np.float32]) -> bool:
    """Whether both have more than rounding leaves, and one about as much as the other."""
    first, second = (_DEVIATIONS * float(np.median(np.abs(each))) for each in (x, y))
    return min(first, second) >= max(_LEAST, _AS_MUCH * max(first, second))


def _middle(grey: Pixels) -> NDArray[np.float32]:
    top, left = (max(0, (side - _SIDE) // 2) for side in grey.shape)
    return grey[top : top + _SIDE, left : left + _SIDE].astype(np.float32)


def _second_differences(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of noise as strong as that of the image; without its outermost pixels, (H - 2, W - 2)."""
    across = image[:, 2:] - 2 * image[:, 1:-1] + image[:, :-2]
    found: NDArray[np.float32] = (across[2:] - 2 * across[1:-1] + across[:-2]) / 6
    return found


def _flat(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Where both show least and are not clipped, bool (H - 2, W - 2), or None where that is too little."""
    clipped = (np.minimum(a, b) <= 1) | (np.maximum(a, b) >= 254)
    inner = ~maximum_filter(clipped, 3)[1:-1, 1:-1]
    unclipped = int(inner.sum())
    if unclipped < _ENOUGH:
        return None
    shown = uniform_filter(a / max(float(a.std()), 1.0) + b / max(float(b.std()), 1.0), 3)
    steep = uniform_filter(np.hypot(*np.gradient(shown)), 5)[1:-1, 1:-1]
    steep = np.where(inner, steep, np.inf)
    wanted = max(_ENOUGH, int(_FLAT * unclipped))
    flat: NDArray[np.bool_] = steep <= np.partition(steep.ravel(), wanted - 1)[wanted - 1]
    return flat


def _correlation(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    return float(x @ y) / max(float(np.sqrt((x @ x) * (y @ y))), 1e-6)


def _independent_without(
    mean: NDArray[np.float32], count: int, x: NDArray[np.float32], y: NDArray[np.float32]
) -> bool:
    """Whether two are independent when the mean of `count` others is fitted to both and taken away."""
    square = max(float(mean @ mean), 1e-6)
    fits = [float(each @ mean) / square for each in (x, y)]
    left = [each - fit * mean for each, fit in zip((x, y), fits, strict=True)]
    shared = fits[0] * fits[1] / count
    shared /= 1 + shared
    return _as_noisy(left[0], left[1]) and (_correlation(*left) - shared) / (1 - shared) <= _INDEPENDENT
