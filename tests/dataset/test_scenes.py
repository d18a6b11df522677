"""Exposures of one scene are no copies of each other, and copies among them are found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from tests.dataset.grey_images import (
    Grey,
    brighter,
    encoded,
    images_of,
    manifest_of,
    near_duplicates,
    part,
    resized,
)
from visionops_assets.dataset.deduplication import exposures as exposures_module
from visionops_assets.dataset.deduplication import near_duplicates as near_duplicates_module
from visionops_assets.evaluation.context import perceptual_leaks
from visionops_assets.images.phash import correlation


def exposures(count: int, noise: float, side: int = 128, seed: int = 1) -> list[Grey]:
    """One part under one camera that shakes by a pixel, lit a little differently each time, some scratched."""
    generator = np.random.default_rng(seed)
    scene = part(side)
    found = []
    for number in range(count):
        image = scene.copy()
        if number % 2:
            x, y = generator.integers(side // 4, side // 2, 2)
            ImageDraw.Draw(image).line([x, y, x + side // 9, y + side // 12], fill=40, width=2)
        x, y = generator.integers(-1, 2, 2)
        image = image.transform(image.size, Image.Transform.AFFINE, (1, 0, int(x), 0, 1, int(y)))
        pixels = np.asarray(image, float) * generator.uniform(0.97, 1.03)
        found.append((pixels + generator.normal(0, noise, pixels.shape)).clip(0, 255).astype(np.uint8))
    return found


COPIES: dict[str, Callable[[Grey], Grey]] = {
    "JPEG 95": lambda image: encoded(image, "JPEG", quality=95),
    "JPEG 75": lambda image: encoded(image, "JPEG", quality=75),
    "WebP 80": lambda image: encoded(image, "WEBP", quality=80),
    "resized 0.7": lambda image: resized(image, 0.7),
    "resized 1.5": lambda image: resized(image, 1.5),
    "brighter": lambda image: brighter(image, 1.2),
}


@pytest.mark.parametrize(("noise", "side"), [(1, 128), (3, 128), (4, 128), (3, 200), (3, 96), (3, 64)])
def test_exposures_of_one_scene_are_no_duplicates(
    noise: float, side: int, count: Callable[[int, int], int]
) -> None:
    images = exposures(count(120, 1500), noise, side)
    alike = [correlation(images[0][..., None], image[..., None]) for image in images[2:]]
    assert max(alike) > 0.98, "they are alike, though"
    assert near_duplicates(images) == set()


@pytest.mark.slow
@pytest.mark.parametrize("side", [128, 64, 40])
@pytest.mark.parametrize("number", [2, 3, 5, 20, 60])
def test_few_exposures_of_one_scene_are_no_duplicates(number: int, side: int) -> None:
    for noise in (1, 3):
        assert near_duplicates(exposures(number, noise, side, seed=5)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("quality", [95, 90, 75])
def test_few_exposures_that_a_camera_stored_as_jpeg_are_no_duplicates(quality: int) -> None:
    assert near_duplicates([encoded(image, "JPEG", quality) for image in exposures(20, 1, seed=6)]) == set()


def test_few_exposures_of_a_texture_that_does_not_move_are_no_duplicates() -> None:
    random = np.random.default_rng(7)
    scene = np.asarray(part(96), float) + random.normal(0, 3, (96, 96))
    images = [(scene + random.normal(0, 1.5, scene.shape)).clip(0, 255).astype(np.uint8) for _ in range(12)]
    assert near_duplicates(images) == set()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG 75", "resized 0.7", "brighter"])
def test_copies_are_found_among_few_exposures(kind: str) -> None:
    images = exposures(12, noise=1, seed=8)
    copies = [COPIES[kind](image) for image in images]
    assert near_duplicates([*images, *copies]) == {(12 + n, n) for n in range(12)}


@pytest.mark.parametrize("side", [24, 40])
def test_of_many_small_exposures_of_one_scene_hardly_any_are_duplicates(side: int) -> None:
    # They have no details, and some are as alike as a copy.
    assert len(near_duplicates(exposures(300, 3, side))) <= 0.003 * 300 * 299 / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_among_exposures_of_their_scene(kind: str) -> None:
    images = exposures(80, noise=3)
    copies = [COPIES[kind](image) for image in images[:20]]
    assert near_duplicates([*images, *copies], first_new=80) == {(80 + n, n) for n in range(20)}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_where_nothing_else_is_like_them(picture: Callable[..., Grey], kind: str) -> None:
    images = [picture(seed, 128, 128)[..., 0] for seed in range(6)]
    copies = [COPIES[kind](image) for image in images]
    assert near_duplicates([*images, *copies]) == {(6 + n, n) for n in range(6)}


ENCODED: dict[str, Callable[[Grey], Grey]] = {
    "JPEG 75": lambda image: encoded(image, "JPEG", quality=75),
    "JPEG 50": lambda image: encoded(image, "JPEG", quality=50),
    "JPEG 30": lambda image: encoded(image, "JPEG", quality=30),
    "resized 0.7, JPEG 85": lambda image: encoded(resized(image, 0.7), "JPEG", quality=85),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODED)
def test_copies_that_are_more_like_each_other_than_like_their_originals_are_found(kind: str) -> None:
    images = exposures(70, noise=1)
    copies = [ENCODED[kind](image) for image in images]
    # Nor are those copies of each other that encoding left nothing of their own.
    assert near_duplicates([*images, *copies], first_new=70) == {(70 + n, n) for n in range(70)}


@pytest.mark.slow
def test_copies_of_several_kinds_of_one_exposure_are_found() -> None:
    images = exposures(50, noise=1)
    kinds = [*ENCODED.values(), COPIES["resized 0.7"], COPIES["resized 1.5"], COPIES["brighter"]]
    copies = [kind(image) for kind in kinds for image in images[:10]]
    found = near_duplicates([*images, *copies], first_new=50)
    groups = {number: {number} for number in range(len(images) + len(copies))}
    for newer, older in found:
        both = groups[newer] | groups[older]
        groups.update(dict.fromkeys(both, both))
    for number in range(10):
        assert {50 + 10 * kind + number for kind in range(len(kinds))} <= groups[number]
        assert groups[number] & set(range(50)) == {number}


def test_images_of_a_scene_are_not_loaded_again_for_each_that_they_may_be_made_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_duplicates_module, "_KEPT_IMAGES", 8)
    images = exposures(50, noise=1)
    images += [ENCODED["JPEG 75"](image) for image in images]
    loaded: list[int] = []
    assert len(near_duplicates(images, loaded=loaded)) == 50
    # Some neighbours of each, not the fifty that are in question for it.
    assert len(loaded) <= 16 * len(images)


@pytest.fixture
def made_over(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each look at whether one image was made of another."""
    looks: list[int] = []
    evidence = exposures_module.evidence

    def counted(*given: Any) -> float:
        looks.append(len(looks))
        return evidence(*given)

    monkeypatch.setattr(exposures_module, "evidence", counted)
    return looks


@pytest.mark.parametrize("quality", [95, 90, 75])
def test_what_a_camera_stores_by_one_table_is_not_made_over(quality: int, made_over: list[int]) -> None:
    images = [encoded(image, "JPEG", quality=quality) for image in exposures(60, noise=3)]
    assert near_duplicates(images) == set()
    assert len(made_over) == 0


def test_unlike_images_are_not_made_over(made_over: list[int]) -> None:
    random = np.random.default_rng(3)
    usual = random.integers(40, 216, (4, 4))
    coarse = [usual + random.normal(0, 35, (4, 4)) for _ in range(150)]
    images = [
        np.asarray(
            Image.fromarray(one.clip(0, 255).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        )
        for one in coarse
    ]
    assert near_duplicates(images) == set()
    assert len(made_over) <= len(images) / 10


def test_what_is_found_does_not_depend_on_how_many_are_compared_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from visionops_assets.dataset.deduplication import candidate_pairs as module

    images = exposures(60, noise=3)
    images += [COPIES["JPEG 75"](image) for image in images]
    found = near_duplicates(images)
    assert len(found) >= 60
    for rows, columns, at_most in ((7, 5, 10**9), (7, 5, 0), (512, 2048, 0)):
        monkeypatch.setattr(module, "_ROWS", rows)
        monkeypatch.setattr(module, "_COLUMNS", columns)
        monkeypatch.setattr(module, "_COMPARED_AT_MOST", at_most)
        assert near_duplicates(images) == found


@pytest.mark.parametrize(("number", "noise"), [(60, 3), (20, 1)])
def test_a_holdout_of_the_same_scene_is_no_leak_and_a_copy_in_it_is(number: int, noise: float) -> None:
    images = exposures(number, noise)
    images.append(COPIES["JPEG 75"](images[number // 2]))
    rows = manifest_of(images, held=[*range(number // 3), number])
    leaks = perceptual_leaks(rows, images_of(images))
    assert leaks[["holdout_path", "training_path"]].to_numpy().tolist() == [[str(number), str(number // 2)]]


@pytest.mark.parametrize("quality", [75, 50])
def test_what_an_import_takes_for_copies_is_a_leak(quality: int) -> None:
    some = [(digit * 15).astype(np.uint8) for digit in load_digits().images[:60]]
    digits = [resized(digit, 2, Image.Resampling.BICUBIC) for digit in some]
    images = [*(encoded(digit, "JPEG", quality) for digit in digits), *digits]
    leaks = perceptual_leaks(manifest_of(images, held=range(60, 120)), images_of(images))
    found = {
        (int(held), int(trained)) for held, trained in leaks[["holdout_path", "training_path"]].to_numpy()
    }
    assert found == {(newer, older) for newer, older in near_duplicates(images, 60) if older < 60}
    assert len(found & {(60 + number, number) for number in range(60)}) >= 58


@pytest.mark.slow
def test_digits_of_a_few_pixels_are_no_leaks_whatever_else_is_there() -> None:
    """Of each lot up to five other pairs were called copies, and the week refused."""
    digits = [(digit * 15).astype(np.uint8) for digit in load_digits().images]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(1500)
        some = [digits[number] for number in order]
        leaks = perceptual_leaks(manifest_of(some, held=range(1100, 1500)), images_of(some))
        assert leaks.empty, leaks.to_string()
    copies = [encoded(digit, "JPEG", 75) for digit in digits[:60]]
    leaks = perceptual_leaks(
        manifest_of([*copies, *digits[:60]], range(60, 120)), images_of([*copies, *digits])
    )
    assert len(leaks) >= 57
