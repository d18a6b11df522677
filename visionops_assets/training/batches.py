"""From decoded samples to batches: gathered as bytes, augmented and normalised on the device, a batch at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from resources.error_family import Invalid
from visionops_assets.config.recipe import Recipe
from visionops_assets.training.augmenting import augment
from visionops_assets.training.determinism import permutation
from visionops_assets.training.mixing import mixed, mosaics

_MEASURED_IMAGES = 4096
# Where augmentation moves targets: (targets, recipe, epoch, positions) -> targets.
Follow = Callable[[Tensor, Recipe, int, NDArray[np.int64]], Tensor]


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

    def plain(self) -> Iterator[Tensor]:
        """All training images once, in their order: float [n, C, H, W] normalised as they are, not augmented."""
        whole = np.arange(len(self.samples))
        for positions in np.array_split(whole, -(-len(whole) // self.recipe.batch_size)):
            pixels = self.samples.source.gather(self.samples.rows[positions])
            images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255.0
            images = images.contiguous(memory_format=torch.channels_last)
            yield (images - self._mean.cpu()) / self._deviation.cpu()

    def _an_image_of(self, values: tuple[float, ...] | None) -> Tensor:
        # A value a pixel: broadcast along channels alone, these two operations took ten times as long.
        assert values is not None
        spec = self.recipe.input
        whole = torch.tensor(values)[:, None, None].expand(1, spec.channels, spec.height, spec.width)
        return whole.contiguous(memory_format=torch.channels_last)

    def _epoch(self) -> int:
        assert self.trainer is not None
        return self.trainer.current_epoch
