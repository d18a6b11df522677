"""From decoded samples to batches: gathered as bytes, augmented and normalised on the device, a batch at a time.

Each image's draw is a function of (seed, epoch, sample) alone. All geometric augmentations become one affine map
and one interpolation, so images are resampled once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from resources.error_family import Invalid
from visionops_assets.config import augmentations as declared
from visionops_assets.config.recipe import Recipe
from visionops_assets.training.determinism import counter_hash, permutation, uniform
from visionops_assets.training.mixing import mixed, mosaics

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
_MEASURED_IMAGES = 4096
# Where augmentation moves targets: (targets, recipe, epoch, positions) -> targets.
Follow = Callable[[Tensor, Recipe, int, NDArray[np.int64]], Tensor]


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


class ImageSource(Protocol):
    """Decoded images by row; what the dataset stage's views are."""

    def gather(self, rows: NDArray[np.integer], /) -> NDArray[np.uint8]:
        """Return uint8 [len(rows), H, W, C] in the order asked for."""
        ...


@dataclass(frozen=True)
class LabelledImages:
    """The rows of a source that make one split [N], with the target of each: class indices [N], or boxes [N, M, 5]."""

    source: ImageSource
    rows: NDArray[np.integer]
    labels: NDArray[Any]

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.labels):
            raise Invalid(f"expected one label a row, got {len(self.rows)} rows, {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.rows)


def channel_statistics(images: LabelledImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation a channel on the scale 0..1.

    Measured on at most 4,096 images spread evenly, by exact integer sums. A constant channel has deviation 1.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MEASURED_IMAGES)).astype(np.int64))
    counts: NDArray[np.int64] | None = None
    for part in np.array_split(images.rows[chosen], -(-len(chosen) // 256)):
        pixels = images.source.gather(part)
        channels = pixels.reshape(-1, pixels.shape[-1])
        found = np.stack([np.bincount(column, minlength=256) for column in channels.T])
        counts = found if counts is None else counts + found
    assert counts is not None
    values = np.arange(256)
    totals = [(int(row.sum()), int((row * values).sum()), int((row * values**2).sum())) for row in counts]
    mean = [first / n for n, first, _ in totals]
    deviation = [(second * n - first**2) ** 0.5 / n for n, first, second in totals]
    return tuple(value / 255 for value in mean), tuple(value / 255 or 1.0 for value in deviation)


def balanced_order(order: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """As many positions as `order` [N] has, each class of `labels` [N] alike: of a rare one each sample several times,
    of a common one some of them, as `order` has them.
    """
    by_class = [order[labels[order] == label] for label in np.unique(labels)]
    turns = np.arange(len(order))
    chosen = np.empty_like(order)
    for number, members in enumerate(by_class):
        mine = turns % len(by_class) == number
        chosen[mine] = members[(turns[mine] // len(by_class)) % len(members)]
    return chosen[order]


class EpochOrder(Sampler[NDArray[np.int64]]):
    """Positions of each batch in an epoch: a pure function of (seed, epoch, number of samples).

    Batches differ in size by one at most, so no stray sample makes a batch of its own.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, balanced: NDArray[np.int64] | None = None
    ) -> None:
        """`balanced` has the class of each sample, where an epoch shows each class as often as any other."""
        self.length, self.seed, self.epoch, self.balanced = length, seed, 0, balanced
        self.batches = -(-length // batch_size)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        order = permutation(self.seed, self.epoch, self.length)
        if self.balanced is not None:
            order = balanced_order(order, self.balanced)
        return iter(np.array_split(order, self.batches))


class Gathered(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """One item is one batch: uint8 images [n, H, W, C], targets [n] or [n, M, 5], positions [n]."""

    def __init__(self, images: LabelledImages) -> None:
        self.images = images

    def __getitem__(self, positions: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        pixels = self.images.source.gather(self.images.rows[positions])
        targets = self.images.labels[positions]
        return (
            torch.from_numpy(np.ascontiguousarray(pixels)),
            torch.from_numpy(targets.astype(np.int64 if targets.ndim == 1 else np.float32)),
            torch.from_numpy(positions),
        )

    def in_order(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield all samples once, in their order."""
        for start in range(0, len(self.images), batch_size):
            yield self[np.arange(start, min(start + batch_size, len(self.images)))]


class EpochBatches:
    """The batches of the epoch that is current when the first of them is asked for.

    Not a bare DataLoader: Lightning makes the first iterator before it knows which epoch a resumed training is in,
    and an iterator that had fixed its order by then would repeat the first epoch's.
    """

    def __init__(
        self, recipe: Recipe, images: LabelledImages, workers: int, epoch: Callable[[], int]
    ) -> None:
        balanced = images.labels if recipe.sampler == "balanced" else None
        self._order = EpochOrder(len(images), recipe.batch_size, recipe.seed, balanced)
        self._epoch = epoch
        # The loader draws a base seed at each epoch: from a generator of its own, or the model's dropout would
        # differ between a resumed and an undisturbed training.
        self._loader: DataLoader[tuple[Tensor, Tensor, Tensor]] = DataLoader(
            Gathered(images),
            sampler=self._order,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        self._order.epoch = self._epoch()
        yield from self._loader


class TrainingData(lightning.LightningDataModule):
    """Gives any LightningModule batches `(images, targets)`: float [n, C, H, W] normalised, targets as `follow` says.

    Loader workers only copy bytes; everything random or numeric happens in the training process, so the result
    does not depend on their number.
    """

    def __init__(
        self, recipe: Recipe, train: LabelledImages, follow: Follow, loader_workers: int = 0
    ) -> None:
        """`recipe` is resolved: its input has mean and std."""
        super().__init__()
        self.follow = follow
        self.recipe, self.samples, self.loader_workers = recipe, train, loader_workers
        self._mean, self._deviation = (
            self._an_image_of(values) for values in (recipe.input.mean, recipe.input.std)
        )

    def train_dataloader(self) -> EpochBatches:
        return EpochBatches(self.recipe, self.samples, self.loader_workers, self._epoch)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, Tensor, Tensor], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        pixels, targets, positions = batch
        samples, epoch = positions.cpu().numpy(), self._epoch()
        images = pixels.permute(0, 3, 1, 2).float() / 255.0
        wanted, seed = self.recipe.augmentations, self.recipe.seed
        images = mosaics(images, wanted, seed=seed, epoch=epoch, samples=samples)
        images = augment(images, wanted, seed=seed, epoch=epoch, samples=samples)
        moved = self.follow(targets, self.recipe, epoch, samples)
        images, moved = mixed(images, moved, wanted, seed=seed, epoch=epoch, samples=samples)
        images = images.contiguous(memory_format=torch.channels_last)
        if self._mean.device != images.device:
            self._mean, self._deviation = self._mean.to(images.device), self._deviation.to(images.device)
        return (images - self._mean) / self._deviation, moved

    def _an_image_of(self, values: tuple[float, ...] | None) -> Tensor:
        # A value a pixel: broadcast along channels alone, these two operations took ten times as long.
        assert values is not None
        spec = self.recipe.input
        whole = torch.tensor(values)[:, None, None].expand(1, spec.channels, spec.height, spec.width)
        return whole.contiguous(memory_format=torch.channels_last)

    def _epoch(self) -> int:
        assert self.trainer is not None
        return self.trainer.current_epoch
