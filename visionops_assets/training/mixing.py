"""Images made of several of one batch, and targets that follow. Partners are the next ones of the batch, whose order is
random by itself; what is drawn follows from (seed, epoch, sample).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional

from visionops_assets.config.augmentations import Augmentation, Cutmix, Mixing, Mosaic
from visionops_assets.training.determinism import uniform

# Apart from the numbers of augmentations, which count from 0.
_PURPOSE = 1_000_003


def _draw(seed: int, epoch: int, samples: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    return uniform(seed, epoch, samples, _PURPOSE, number)


def mixed(
    images: Tensor,
    targets: Tensor,
    augmentations: Sequence[Augmentation],
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W] with mixup or cutmix, and targets float [N, 3]: class, the partner's, share of the first.

    Without either both stay as they are: targets int64 [N].
    """
    mixing = next((each for each in augmentations if isinstance(each, Mixing)), None)
    if mixing is None:
        return images, targets
    chosen = _draw(seed, epoch, samples, 0) < mixing.probability
    share = betaincinv(mixing.alpha, mixing.alpha, _draw(seed, epoch, samples, 1))
    partners = images.roll(-1, 0)
    if isinstance(mixing, Cutmix):
        height, width = images.shape[2:]
        side = np.sqrt(1 - share)
        middle = [_draw(seed, epoch, samples, number) for number in (2, 3)]
        top, bottom = _part(middle[0], side, height)
        left, right = _part(middle[1], side, width)
        share = 1 - (bottom - top) * (right - left) / (height * width)
        rows, columns = np.arange(height)[:, None], np.arange(width)
        inside = (rows >= top[:, None, None]) & (rows < bottom[:, None, None])
        inside = inside & (columns >= left[:, None, None]) & (columns < right[:, None, None])
        inside &= chosen[:, None, None]
        images = torch.where(torch.from_numpy(inside).to(images.device)[:, None], partners, images)
    share = np.where(chosen, share, 1.0)
    kept = torch.from_numpy(share.astype(np.float32)).to(images.device)
    if not isinstance(mixing, Cutmix):
        images = torch.lerp(partners, images, kept[:, None, None, None])
    return images, torch.stack([targets.float(), targets.roll(-1, 0).float(), kept], dim=1)


def _part(
    middle: NDArray[np.float64], side: NDArray[np.float64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last place of a part about a point, cut off at the edges."""
    first = np.clip(np.rint(middle * length - side * length / 2), 0, length)
    last = np.clip(np.rint(middle * length + side * length / 2), 0, length)
    return first.astype(np.int64), last.astype(np.int64)


def _chosen(
    augmentations: Sequence[Augmentation], seed: int, epoch: int, samples: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Which of a batch become mosaics."""
    mosaic = next((each for each in augmentations if isinstance(each, Mosaic)), None)
    if mosaic is None:
        return np.zeros(0, np.int64)
    return np.flatnonzero(_draw(seed, epoch, samples, 4) < mosaic.probability)


def _quarters(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Top, left, height and width of the four parts of an image."""
    up, aside = height // 2, width // 2
    return [
        (0, 0, up, aside),
        (0, aside, up, width - aside),
        (up, 0, height - up, aside),
        (up, aside, height - up, width - aside),
    ]


def mosaics(
    images: Tensor,
    augmentations: Sequence[Augmentation],
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
) -> Tensor:
    """Images [N, C, H, W], of which some are made of themselves and the three that follow in the batch."""
    chosen = _chosen(augmentations, seed, epoch, samples)
    if not len(chosen):
        return images
    made = images.clone()
    for number, (top, left, high, wide) in enumerate(_quarters(*images.shape[2:])):
        taken = images[(chosen + number) % len(images)]
        made[chosen, :, top : top + high, left : left + wide] = functional.adaptive_avg_pool2d(
            taken, (high, wide)
        )
    return made


def mosaic_boxes(
    targets: Tensor,
    augmentations: Sequence[Augmentation],
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    size: tuple[int, int],
) -> Tensor:
    """Targets [N, M, 5] that follow `mosaics` of the same draws, [N, 4 M, 5]; `size` is height and width in pixels."""
    chosen = _chosen(augmentations, seed, epoch, samples)
    if not len(chosen):
        return targets
    height, width = size
    count, most = targets.shape[:2]
    made = targets.new_zeros((count, 4 * most, 5))
    made[..., 4] = -1
    made[:, :most] = targets
    for number, (top, left, high, wide) in enumerate(_quarters(height, width)):
        factors = targets.new_tensor([wide / width, high / height, wide / width, high / height, 1])
        moved = targets[(chosen + number) % count] * factors + targets.new_tensor([left, top, 0, 0, 0])
        made[chosen, number * most : (number + 1) * most] = moved
    return made
