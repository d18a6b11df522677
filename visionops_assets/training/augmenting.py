"""Images augmented as a recipe declares, a batch at a time, on the device where they are.

Each image's draw is a function of (seed, epoch, sample) alone. All geometric augmentations become one affine map
and one interpolation, so images are resampled once.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from visionops_assets.config import augmentations as declared
from visionops_assets.training.determinism import counter_hash, uniform

_GEOMETRIC = (
    declared.Shift,
    declared.Rotate,
    declared.Scale,
    declared.HorizontalFlip,
    declared.VerticalFlip,
    declared.RandomResizedCrop,
)
# From RGB to lightness and two axes of colour (YIQ), in which a turn changes the hue.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


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
            case declared.RandomResizedCrop(area=area, ratio=ratio):
                part, shape = area + (1 - area) * draw(0), ratio ** (2 * draw(1) - 1)
                # No side is longer than the image's.
                for axis, side in ((0, np.sqrt(part * shape)), (1, np.sqrt(part / shape))):
                    step[:, axis, axis] = side = np.minimum(side, 1.0)
                    step[:, axis, 2] = (2 * draw(2 + axis) - 1) * (1 - side)
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


def _jittered(
    images: Tensor, jitter: declared.ColourJitter, draw: Callable[[int], NDArray[np.float64]]
) -> Tensor:
    def factors(number: int, share: float) -> Tensor:
        found = 1 + (2 * draw(number) - 1) * share
        return torch.from_numpy(found.astype(np.float32)).to(images.device)[:, None, None, None]

    images = images * factors(0, jitter.brightness)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * factors(1, jitter.contrast) + mean
    if images.shape[1] == 1:
        return images
    # Each image's own matrix of colours: saturation stretches the two axes of colour, hue turns them.
    angle = np.deg2rad((2 * draw(3) - 1) * jitter.hue)
    stretch = 1 + (2 * draw(2) - 1) * jitter.saturation
    turn = np.tile(np.eye(3), (len(angle), 1, 1))
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle) * stretch
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle) * stretch, np.sin(angle) * stretch
    colours = torch.from_numpy((np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ).astype(np.float32)).to(images.device)
    rows = [(images * colours[:, row, :, None, None]).sum(dim=1) for row in range(3)]
    return torch.stack(rows, dim=1)


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
        if isinstance(augmentation, (*_GEOMETRIC, declared.Mixing, declared.Mosaic)):
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
            case declared.ColourJitter():
                images = _jittered(images, augmentation, partial(uniform, seed, epoch, samples, position))
    return images.clamp(0.0, 1.0)
