"""An image as JPEG sees it: blocks of 8×8 grey values, their coefficients, and the table they were quantised by.

The table is found from the image: one of the hundred of the IJG's `jpeg_set_quality`.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
BLOCKS_FOR_THE_TABLE, _BLOCKS_BEHIND_NOISE, _ENOUGH = 64, 16, 4
# By how many nats the coefficients of a JPEG are likelier to be one's; and the share of those that lie beside a step,
# since all grey values of a flat block were rounded the same way.
_ON_THE_TABLE, _BESIDE = 20.0, 0.1
# Of an image that is not quantised few of the high frequencies are as small.
_NOTHING = 0.3
# How an image is stored: as it was exposed, quantised by none of the tables, or too clipped to say; else the quality.
NO_TABLE, PLAIN, UNKNOWN = 128, 192, 255
_HIGH = np.add.outer(np.arange(BLOCK), np.arange(BLOCK)).ravel() >= BLOCK


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


def quality_of(b: Blocks) -> int:
    """The quality by whose table an image was quantised, by some of its blocks, or one of the three above.

    It may come from a JPEG if its high frequencies are zero, or if it is clipped.
    """
    whole = b.coefficients[~lost(b)]
    whole = whole[:: max(1, len(whole) // BLOCKS_FOR_THE_TABLE)]
    if len(whole) < _ENOUGH:
        return UNKNOWN
    if np.median(np.abs(whole[:, _HIGH])) >= _NOTHING:
        return PLAIN
    return _table_of(whole) or NO_TABLE


def quality_behind_noise(b: Blocks) -> int:
    """`quality_of`, also where the quality is so high that noise is left, as of a `PLAIN` image."""
    quality = quality_of(b)
    if quality != PLAIN:
        return quality
    whole = b.coefficients[~lost(b)]
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


def lost(blocks: Blocks) -> NDArray[np.bool_]:
    """Which blocks do not say what their coefficients were: those that are clipped, or cut by the edge."""
    clipped = (blocks.values <= -128) | (blocks.values >= 127)
    return np.asarray((clipped | ~blocks.visible).any(axis=1))


def decoded(steps: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The grey values less 128 that coefficients give, as whole numbers."""
    return np.clip(np.rint((steps * table) @ _cosines()), -128, 127)


def blocks_of(values: NDArray[np.float64], most: int) -> Blocks:
    """The blocks of an image, evenly chosen where there are more; its edge is repeated until they are whole."""
    height, width = values.shape
    pad = ((0, -height % BLOCK), (0, -width % BLOCK))
    values, visible = np.pad(values, pad, mode="edge"), np.pad(np.ones((height, width), bool), pad)
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
