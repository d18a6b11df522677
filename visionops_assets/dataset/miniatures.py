"""What a grey image shows at a small size, and how far two of them are apart once tone and sharpness are allowed for.

A copy differs from its original a little everywhere, another image much somewhere: so what is left of one when the
other is fitted to it counts by its fourth power. The fit takes up what encoders, resizing filters and photo editors
change: contrast, a bend of the tone curve, and sharpness.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.images.decode import Pixels
from visionops_assets.dataset.details import brought_to

# Sides that images are brought to; an image has those that are no larger than its shorter side.
SIDES = (32, 16, 8, 6)

# Of the values: steps in a standard deviation of the image.
_STEPS = 24.0
_GREY = 16
# Grey values that differ less, as their standard deviation, show nothing.
_PLAIN = 0.5
_PAIRS_AT_ONCE = 1 << 7
# Of the variance; keeps the fit of two equal regressors solvable.
_RIDGE = 1e-6


def miniatures_of(grey: Pixels) -> dict[int, NDArray[np.int8]]:
    """The miniatures of a grey image (H, W) by side, int8 (side²,); none where it is tiny or plain."""
    found = {}
    for side in SIDES:
        if side <= min(grey.shape):
            small = np.rint(brought_to(grey, side, Image.Resampling.LANCZOS) * _GREY)
            small -= np.rint(small.mean(dtype=np.float64))
            deviation = np.sqrt(np.mean(small * small, dtype=np.float64))
            if deviation < _PLAIN * _GREY:
                return {}
            found[side] = np.clip(np.rint(small * (_STEPS / deviation)), -127, 127).astype(np.int8).ravel()
    return found


def differences(ones: NDArray[np.int8], others: NDArray[np.int8]) -> NDArray[np.float64]:
    """How far pairs of miniatures (P, side²) are apart, in standard deviations of the image, (P,)."""
    found = np.empty(len(ones))
    for start in range(0, len(ones), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        a, b = (_normal(values[part]) for values in (ones, others))
        # The plainer of two would fit the richer one less well than the other way round.
        found[part] = np.maximum(_left(a, b), _left(b, a))
    return found


def _normal(values: NDArray[np.int8]) -> NDArray[np.float64]:
    centred = values - values.mean(axis=1, keepdims=True)
    found: NDArray[np.float64] = centred / np.sqrt(np.mean(centred * centred, axis=1, keepdims=True))
    return found


def _left(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The root of the mean fourth power of what is left of `b` (P, V) when `a` is fitted to it."""
    terms = np.stack([a, _around(a), a * a], axis=1)
    terms -= terms.mean(axis=2, keepdims=True)
    products = terms @ terms.transpose(0, 2, 1) + _RIDGE * a.shape[1] * np.eye(3)
    weights = np.linalg.solve(products, terms @ b[:, :, None])
    rest = b - np.einsum("pt,ptv->pv", weights[..., 0], terms)
    rest *= rest
    found: NDArray[np.float64] = np.mean(rest * rest, axis=1) ** 0.25
    return found


def _around(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the four neighbours of each value, the edge repeated."""
    side = round(values.shape[1] ** 0.5)
    image = np.pad(values.reshape(-1, side, side), ((0, 0), (1, 1), (1, 1)), mode="edge")
    total = image[:, 1:-1, :-2] + image[:, 1:-1, 2:] + image[:, :-2, 1:-1] + image[:, 2:, 1:-1]
    return (total / 4).reshape(len(values), -1)
