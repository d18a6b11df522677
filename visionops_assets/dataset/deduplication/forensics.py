"""What its making left in an image: the table that JPEG quantised its blocks by, and the noise of the sensor.

The table of 8×8 grey values' coefficients is that of the file, if it is a JPEG. Where it was one before it is found
from the image: one of the hundred of the IJG's `jpeg_set_quality`.

A sensor's noise is another in each exposure, and in every pixel; a copy has that of its original, or less of it
where it was encoded. So where nothing else is shown, the second differences of two exposures do not correlate, of
however many they are, which needs no scene to be known. What is told are exposures with as much noise as each
other: an encoder that takes noise away leaves less, or some of it.

Second differences across and down leave nothing of a plane (Immerkær, "Fast noise variance estimation", 1996).
Where a texture that does not move is left, it is what other exposures have there too: their mean is fitted to both.
Of `n` that is a share of its own noise, 1/n of that of one, which both then have and which is counted off.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter

from edge.images.decode import Pixels
from edge.images.header import Header
from edge.images.jpeg_segments import brightness_table

# The luminance table of JPEG's annex K (ITU-T T.81, 1992), row by row.
_ANNEX_K = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
BLOCK = 8
# The standard deviation of a coefficient by what was rounded on the way.
ROUNDED = 0.4
# Blocks on which a table is found, and how many of these are to be unclipped.
BLOCKS_FOR_THE_TABLE, _BLOCKS_BEHIND_NOISE, _ENOUGH_COEFFICIENTS = 64, 16, 4
# By how many nats the coefficients of a JPEG are likelier to be one's; and the share of those that lie beside a step,
# since all grey values of a flat block were rounded the same way.
_ON_THE_TABLE, _BESIDE = 20.0, 0.1
# Of an image that is not quantised few of the high frequencies are as small.
_NOTHING = 0.3
# How an image is stored: as it was exposed, quantised by none of the tables, or too clipped to say; else the quality.
NO_TABLE, PLAIN, UNKNOWN = 128, 192, 255
_HIGH = np.add.outer(np.arange(BLOCK), np.arange(BLOCK)).ravel() >= BLOCK
# EXIF's orientations from here on exchange rows and columns.
_TRANSPOSED = 5
_ENOUGH_PIXELS = 50
# Copies that kept as much noise correlate by more.
_INDEPENDENT = 0.3
# A standard deviation of a normal distribution by its median absolute value.
_DEVIATIONS = 1.4826


class Blocks(NamedTuple):
    """Blocks (N, 64) of grey values less 128, their coefficients, and which values the image has, bool (N, 64)."""

    values: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    visible: NDArray[np.bool_]


@cache
def _cosines() -> NDArray[np.float64]:
    """The orthonormal DCT-II of a block, (64, 64): coefficients of values, both row by row."""
    k, n = np.mgrid[0:BLOCK, 0:BLOCK]
    one = np.cos(np.pi * k * (2 * n + 1) / (2 * BLOCK)) * np.where(k == 0, 1, 2**0.5) / BLOCK**0.5
    return np.kron(one, one)


@cache
def ijg_tables() -> NDArray[np.float64]:
    """The tables of quality 1 to 100 as the IJG's library makes them, (100, 64)."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    made = (_ANNEX_K.ravel() * scale[:, None] + 50) // 100
    found: NDArray[np.float64] = np.clip(made, 1, 255).astype(np.float64)
    return found


def table_of_file(data: bytes, header: Header) -> NDArray[np.float64] | None:
    """The table (64,) by which the upright grey image of a JPEG was quantised; None of what is none, or where the image
    was turned such that its blocks begin elsewhere."""
    table = brightness_table(data) if header.format == "JPEG" else None
    if table is None or (header.orientation != 1 and (header.height % BLOCK or header.width % BLOCK)):
        return None
    found = np.array(table, np.float64).reshape(BLOCK, BLOCK)
    return (found.T if header.orientation >= _TRANSPOSED else found).ravel()


def jpeg_quality(b: Blocks) -> int:
    """The quality by whose table an image was quantised, by some of its blocks, or one of the three above.

    It may come from a JPEG if its high frequencies are zero, or if it is clipped.
    """
    whole = b.coefficients[~lost_blocks(b)]
    whole = whole[:: max(1, len(whole) // BLOCKS_FOR_THE_TABLE)]
    if len(whole) < _ENOUGH_COEFFICIENTS:
        return UNKNOWN
    if np.median(np.abs(whole[:, _HIGH])) >= _NOTHING:
        return PLAIN
    return _table_of(whole) or NO_TABLE


def jpeg_quality_behind_noise(b: Blocks) -> int:
    """`quality_of`, also where the quality is so high that noise is left, as of a `PLAIN` image."""
    quality = jpeg_quality(b)
    if quality != PLAIN:
        return quality
    whole = b.coefficients[~lost_blocks(b)]
    return _table_of(whole[:: max(1, len(whole) // _BLOCKS_BEHIND_NOISE)]) or PLAIN


def _table_of(whole: NDArray[np.float64]) -> int:
    """The quality by whose table coefficients of blocks (N, 64) were quantised, 0 if by none."""
    row, place = np.nonzero(np.abs(whole) > 1)
    if not len(row):
        return 0
    steps, shown = ijg_tables()[:, place], whole[row, place]
    # By how much it is likelier that most coefficients lie at steps of a table than that all lie anywhere.
    off = (shown - np.rint(shown / steps) * steps) / ROUNDED
    at_steps = steps * np.exp(-0.5 * off * off) / (ROUNDED * (2 * np.pi) ** 0.5)
    likelier = np.sum(np.log((1 - _BESIDE) * at_steps + _BESIDE), axis=1)
    likeliest = int(np.argmax(likelier))
    return likeliest + 1 if likelier[likeliest] >= _ON_THE_TABLE else 0


def lost_blocks(blocks: Blocks) -> NDArray[np.bool_]:
    """Which blocks do not say what their coefficients were: those that are clipped, or cut by the edge."""
    clipped = (blocks.values <= -128) | (blocks.values >= 127)
    return np.asarray((clipped | ~blocks.visible).any(axis=1))


def values_of(steps: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The grey values less 128 that coefficients give, as whole numbers."""
    return np.clip(np.rint((steps * table) @ _cosines()), -128, 127)


def blocks_of(values: NDArray[np.float64], most: int) -> Blocks:
    """The blocks of an image, evenly chosen where there are more; its edge is repeated until they are whole."""
    height, width = values.shape
    visible = np.ones((height, width), bool)
    if height % BLOCK or width % BLOCK:
        pad = ((0, -height % BLOCK), (0, -width % BLOCK))
        values, visible = np.pad(values, pad, mode="edge"), np.pad(visible, pad)
    down, across = values.shape[0] // BLOCK, values.shape[1] // BLOCK
    chosen = np.arange(down * across)
    if len(chosen) > most:
        chosen = np.linspace(0, len(chosen) - 1, most).astype(int)
    blocks, seen = (
        image.reshape(down, BLOCK, across, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK * BLOCK)[chosen]
        for image in (values, visible)
    )
    blocks = blocks - 128
    return Blocks(blocks, blocks @ _cosines().T, seen.astype(bool))


# Pixels a side that are looked at, from the middle, and the share of these where least is shown.
_SIDE, _FLAT = 256, 0.3
# Of noise, as its standard deviation: less is that of rounding, and exposures of one scene differ by no more than this.
_LEAST, _AS_MUCH = 0.6, 0.5


def different_exposures(one: Pixels, other: Pixels, others: Sequence[Pixels]) -> bool:
    """Whether grey images (H, W) of one size have noise that is independent; `others` are of their scene, if any are
    known. Of images without noise, or where it cannot be told from what they show, nothing says so."""
    if one.shape != other.shape or min(one.shape) < 8:
        return False
    a, b = _middle(one), _middle(other)
    flat = _flat_in_both(a, b)
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


def _flat_in_both(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Where both show least and are not clipped, bool (H - 2, W - 2), or None where that is too little."""
    clipped = (np.minimum(a, b) <= 1) | (np.maximum(a, b) >= 254)
    inner = ~maximum_filter(clipped, 3)[1:-1, 1:-1]
    unclipped = int(inner.sum())
    if unclipped < _ENOUGH_PIXELS:
        return None
    shown = uniform_filter(a / max(float(a.std()), 1.0) + b / max(float(b.std()), 1.0), 3)
    steep = uniform_filter(np.hypot(*np.gradient(shown)), 5)[1:-1, 1:-1]
    steep = np.where(inner, steep, np.inf)
    wanted = max(_ENOUGH_PIXELS, int(_FLAT * unclipped))
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
