"""Augmentations of a whole batch at once, each image's draw a function of (seed, epoch, sample) alone.

All geometric augmentations become one affine map and one interpolation, so images are resampled once.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from visionops_assets.config import recipe as declared
from visionops_assets.training.randomness import counter_hash, uniform

_GEOMETRIC = (declared.Shift, declared.Rotate, declared.Scale, declared.HorizontalFlip, declared.VerticalFlip)


def affine_matrices(
    augmentations: Sequence[declared.Augmentation],
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    aspect: float,
) -> NDArray[np.float64]:
    """Return the maps [N, 3, 3] from output to input coordinates (both -1..1, x right, y down).

    `aspect` is width / height: rotation turns pixels, not the normalised square.
    """
    total = np.broadcast_to(np.eye(3), (len(samples), 3, 3))
    for position, augmentation in enumerate(augmentations):
        if not isinstance(augmentation, _GEOMETRIC):
            continue

        def draw(number: int, position: int = position) -> NDArray[np.float64]:
            return uniform(seed, epoch, samples, position, number)

        step = np.tile(np.eye(3), (len(samples), 1, 1))
        match augmentation:
            case declared.Shift(fraction=fraction):
                # The normalised axis is 2 long, so a fraction f of the side is 2f.
                step[:, 0, 2] = (2 * draw(0) - 1) * 2 * fraction
                step[:, 1, 2] = (2 * draw(1) - 1) * 2 * fraction
            case declared.Rotate(degrees=degrees):
                angle = np.deg2rad((2 * draw(0) - 1) * degrees)
                step[:, 0, 0] = step[:, 1, 1] = np.cos(angle)
                step[:, 0, 1] = -np.sin(angle) / aspect
                step[:, 1, 0] = np.sin(angle) * aspect
            case declared.Scale(fraction=fraction):
                factor = (1 + fraction) ** (2 * draw(0) - 1)
                step[:, 0, 0] = step[:, 1, 1] = factor
            case declared.HorizontalFlip(probability=probability):
                step[:, 0, 0] = np.where(draw(0) < probability, -1.0, 1.0)
            case declared.VerticalFlip(probability=probability):
                step[:, 1, 1] = np.where(draw(0) < probability, -1.0, 1.0)
        total = total @ step
    return total


def _sampling_grid(maps: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    # Not torch's affine_grid: its matrix product may round an image differently beside other images.
    x = (2 * np.arange(width) + 1) / width - 1
    y = ((2 * np.arange(height) + 1) / height - 1)[:, None]
    grid = np.empty((len(maps), height, width, 2), dtype=np.float32)
    for axis in (0, 1):
        row = maps[:, axis, :, None, None]
        grid[..., axis] = row[:, 0] * x + row[:, 1] * y + row[:, 2]
    return grid


def _noise(shape: torch.Size, seeds: NDArray[np.uint64]) -> Tensor:
    noise = torch.empty(shape)
    generator = torch.Generator()
    for row, seed in enumerate(seeds):
        generator.manual_seed(int(seed >> np.uint64(1)))
        torch.randn(shape[1:], generator=generator, out=noise[row])
    return noise


def augment(
    images: Tensor,
    augmentations: Sequence[declared.Augmentation],
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
) -> Tensor:
    """Return augmented images.

    `images` is float [N, C, H, W] in 0..1, on any device; the result has the same shape and range. `samples`
    holds one stable number an image, [N]. What leaves the frame is lost; what enters repeats the border.
    """
    if not augmentations:
        return images
    if any(isinstance(augmentation, _GEOMETRIC) for augmentation in augmentations):
        maps = affine_matrices(
            augmentations, seed=seed, epoch=epoch, samples=samples, aspect=images.shape[3] / images.shape[2]
        )
        grid = torch.from_numpy(_sampling_grid(maps, *images.shape[2:])).to(images.device)
        images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)

    for position, augmentation in enumerate(augmentations):
        if isinstance(augmentation, _GEOMETRIC):
            continue
        signed = 2 * uniform(seed, epoch, samples, position, 0) - 1
        amount = torch.from_numpy(signed.astype(np.float32)).to(images.device)[:, None, None, None]
        match augmentation:
            case declared.Brightness(fraction=fraction):
                images = images + amount * fraction
            case declared.Contrast(fraction=fraction):
                mean = images.mean(dim=(1, 2, 3), keepdim=True)
                images = (images - mean) * (1 + amount * fraction) + mean
            case declared.Noise(sigma=sigma):
                seeds = counter_hash(seed, epoch, samples, position, 1)
                noise = _noise(images.shape, seeds).to(images.device)
                images = images + noise * (amount.abs() * sigma)
    return images.clamp(0.0, 1.0)
