"""Image statistics, by one code path for training, reference, servers and devices: what drift looks at.

They are measured on the pixels that the model sees (decoded and resized by `edge.images.decode`), so that a camera
that changes its resolution shows in the size alone. Grey is ITU-R 601 luma on the scale 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STATISTICS = ("brightness", "contrast", "sharpness", "saturation", "entropy", "width", "height")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_GREY_LEVELS = 256


def image_statistics(pixels: NDArray[np.uint8], sizes: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """One row an image [N, 7], in the order of `STATISTICS`, of uint8 `pixels` [N, H, W, C], N at least 1, C 1 or 3.

    `sizes` are width and height [N] of the upright image as it came, in pixels. brightness: mean grey. contrast:
    its standard deviation. sharpness: standard deviation of its Laplacian (Pech-Pacheco et al. 2000, "Diatom
    autofocusing in brightfield microscopy", as a root), low in blurred images. saturation: mean of HSV's, 0 in grey
    images. entropy: of the 256 grey levels, in bits.
    """
    colour = pixels.shape[-1] == 3
    grey = (pixels @ _LUMA if colour else pixels[..., 0].astype(np.float32)) / 255.0
    flat = grey.reshape(len(grey), -1)
    columns = (
        flat.mean(axis=1),
        flat.std(axis=1),
        _laplacian(grey).std(axis=(1, 2)),
        _saturation(pixels) if colour else np.zeros(len(pixels)),
        _entropy(flat),
        *np.asarray(sizes, np.float64).T,
    )
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _laplacian(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Four neighbours less four times the pixel [N, H, W], the edge repeated: no image is too small."""
    framed = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    neighbours = framed[:, :-2, 1:-1] + framed[:, 2:, 1:-1] + framed[:, 1:-1, :-2] + framed[:, 1:-1, 2:]
    return neighbours - 4 * grey


def _saturation(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    # Channel by channel: a reduction over a last axis of three takes 17 times as long.
    red, green, blue = (pixels[..., channel] for channel in range(3))
    largest = np.maximum(np.maximum(red, green), blue)
    spread = largest - np.minimum(np.minimum(red, green), blue)
    # Black has none: 0 / 1.
    found: NDArray[np.float32] = np.divide(spread, np.maximum(largest, 1), dtype=np.float32).mean(axis=(1, 2))
    return found


def _entropy(flat: NDArray[np.float32]) -> NDArray[np.float64]:
    images = len(flat)
    levels = np.rint(flat * 255).astype(np.int64) + np.arange(images)[:, None] * _GREY_LEVELS
    shares = np.bincount(levels.ravel(), minlength=images * _GREY_LEVELS).reshape(images, -1) / flat.shape[1]
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    found: NDArray[np.float64] = -(shares * logs).sum(axis=1)
    return found
