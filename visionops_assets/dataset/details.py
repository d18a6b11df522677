"""Fine details of an image: what two exposures of one scene do not share.

Details between σ 0.7 and 3 pixels, divided by the strength of the details around them, so that the noise of a flat
spot weighs as much as the edge of a part. An image is looked at at 64×64 pixels, and at 128×128 where it is large
enough, each at 32×32 places, as whole numbers below 128, so that a product of two vectors is exact in float32. All
filters count in whole numbers that float32 holds exactly, hence the same vectors on every machine.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.images.decode import Pixels

# Sides at which an image is looked at, the larger first.
LEVELS = (128, 64)

_PLACES = 32
# A level is at most this many times the shorter side.
_LARGER = 1.5
_COARSE, _AROUND = 3.0, 2.0
_FINE = 0.7
_FILTER_UNIT = 1 << 9
# Grey values are counted in sixteenths.
_GREY = 16
# Details of half a grey value count half.
_FAINT = 0.5 * _GREY
# Root mean square of a normal distribution by its mean absolute value.
_STRENGTH = 1.25
_NO_DETAILS = 0.25
_STEPS = 32.0
# Beyond this many times the level an image is first reduced by whole pixels.
_REDUCED_TO = 4


def details_of(grey: Pixels) -> dict[int, NDArray[np.int8]]:
    """The details of a grey image (H, W) by level, int8 (1024,); none where it is small or shows nothing."""
    found = {}
    for level in LEVELS:
        if level <= _LARGER * min(grey.shape):
            vector = _details(grey, level)
            if vector is None:
                return {}
            found[level] = vector
    return found


def _details(grey: Pixels, level: int) -> NDArray[np.int8] | None:
    image = np.rint(brought_to(grey, level, Image.Resampling.BILINEAR) * _GREY).astype(np.float32)
    step = level // _PLACES
    places = slice(step // 2, None, step)
    details, strength = _strength(image, places)
    relative = details[places, places] / (strength * _STRENGTH + _FAINT)
    if np.sqrt(np.mean(relative * relative, dtype=np.float64)) < _NO_DETAILS:
        return None
    return np.clip(np.rint(relative * _STEPS), -127, 127).astype(np.int8).ravel()


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
