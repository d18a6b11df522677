"""Augmentations depend on seed, epoch and sample only, and do what their names say."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from visionops_assets.config.augmentations import Augmentation
from visionops_assets.training.augmenting import augment
from visionops_assets.training.determinism import counter_hash, derived_seed, permutation, uniform

ALL: list[dict[str, Any]] = [
    {"name": "shift", "fraction": 0.2},
    {"name": "rotate", "degrees": 20},
    {"name": "scale", "fraction": 0.3},
    {"name": "horizontal_flip"},
    {"name": "vertical_flip"},
    {"name": "brightness", "fraction": 0.2},
    {"name": "contrast", "fraction": 0.5},
    {"name": "noise", "sigma": 0.1},
    {"name": "random_resized_crop"},
    {"name": "colour_jitter"},
]


def declared(*augmentations: dict[str, Any]) -> list[Augmentation]:
    return [TypeAdapter(Augmentation).validate_python(one) for one in augmentations]


def images(count: int = 37, height: int = 12, width: int = 17, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def test_each_image_is_augmented_alike_in_any_batch_and_order() -> None:
    pictures, samples = images(), np.arange(100, 137)
    together = augment(pictures, declared(*ALL), seed=1, epoch=2, samples=samples)
    order = np.random.default_rng(0).permutation(37)
    for part in (order[:1], order[1:9], order[9:]):
        apart = augment(pictures[part], declared(*ALL), seed=1, epoch=2, samples=samples[part])
        assert torch.equal(apart, together[part])


@pytest.mark.parametrize("one", ALL, ids=lambda one: one["name"])
def test_each_augmentation_changes_images_within_range_and_anew_each_epoch(one: dict[str, Any]) -> None:
    pictures, samples = images(), np.arange(37)
    first, second, other = (
        augment(pictures, declared(one), seed=seed, epoch=epoch, samples=samples)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    assert first.shape == pictures.shape
    assert first.min() >= 0 and first.max() <= 1
    assert not torch.equal(first, pictures)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_without_augmentations_images_stay_as_they_are() -> None:
    pictures = images()
    assert torch.equal(augment(pictures, [], seed=0, epoch=0, samples=np.arange(37)), pictures)


@pytest.mark.parametrize(("name", "axis"), [("horizontal_flip", 3), ("vertical_flip", 2)])
def test_a_certain_flip_mirrors(name: str, axis: int) -> None:
    pictures = images()
    flipped = augment(
        pictures, declared({"name": name, "probability": 1}), seed=0, epoch=0, samples=np.arange(37)
    )
    torch.testing.assert_close(flipped, pictures.flip(axis), atol=1e-5, rtol=0)


def test_a_turned_square_keeps_its_sides_in_a_wide_image() -> None:
    # A dot 4 pixels right of the centre, turned about it, stays 4 pixels away on an image twice as wide as high.
    pictures = torch.zeros(200, 1, 21, 41)
    pictures[:, :, 9:12, 23:26] = 1
    turned = augment(
        pictures, declared({"name": "rotate", "degrees": 180}), seed=0, epoch=0, samples=np.arange(200)
    )
    rows, columns = torch.meshgrid(torch.arange(21) - 10.0, torch.arange(41) - 20.0, indexing="ij")
    weight = turned[:, 0] / turned[:, 0].sum(dim=(1, 2), keepdim=True)
    distance = torch.hypot((weight * rows).sum(dim=(1, 2)), (weight * columns).sum(dim=(1, 2)))
    assert torch.all((distance - 4).abs() < 0.2)


def test_shift_moves_at_most_its_fraction() -> None:
    pictures = torch.zeros(300, 1, 41, 41)
    pictures[:, :, 20, 20] = 1
    moved = augment(
        pictures, declared({"name": "shift", "fraction": 0.1}), seed=0, epoch=0, samples=np.arange(300)
    )
    found = (moved[:, 0] > 0.05).nonzero()[:, 1:] - 20
    assert found.abs().max() == 5
    assert (found < 0).any() and (found > 0).any()


def test_counter_hash_is_splitmix64() -> None:
    # The first output of the reference implementation for seed 0.
    assert int(counter_hash(0)[0]) == 0xE220A8397B1DCDAF


def test_uniform_numbers_are_uniform_and_counters_are_not_interchangeable() -> None:
    numbers = uniform(3, np.arange(20_000), 5)
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    # 20 bins of 1,000 expected; 99.9% quantile of chi-square with 19 degrees of freedom.
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8
    assert uniform(3, 1, 2) != uniform(3, 2, 1)


def test_an_epoch_visits_every_sample_once_in_an_order_of_its_own() -> None:
    first, second = permutation(0, 0, 101), permutation(0, 1, 101)
    assert sorted(first) == sorted(second) == list(range(101))
    assert list(first) != list(second)
    assert list(first) == list(permutation(0, 0, 101))


def test_derived_seeds_differ_by_purpose_and_number() -> None:
    seeds = {
        derived_seed(0, purpose, number) for purpose in ("epoch", "initialisation") for number in range(50)
    }
    assert len(seeds) == 100
