"""Copies are found among images of every kind, and images of one kind are no copies of each other."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.dataset.grey_images import Grey, brighter, encoded, near_duplicates, resized
from tests.world import CLASSES, draw
from visionops.demo.parts import draw_batch

COPIES: dict[str, Callable[[Grey], Grey]] = {
    "JPEG 95": lambda image: encoded(image, "JPEG", 95),
    "JPEG 75": lambda image: encoded(image, "JPEG", 75),
    "WebP 80": lambda image: encoded(image, "WEBP", 80),
    "resized 0.7": lambda image: resized(image, 0.7, Image.Resampling.LANCZOS),
    "resized 0.7, bilinear": lambda image: resized(image, 0.7, Image.Resampling.BILINEAR),
    "resized 1.5": lambda image: resized(image, 1.5, Image.Resampling.BICUBIC),
    "darker": lambda image: brighter(image, 0.7),
    "brighter": lambda image: brighter(image, 1.2),
}


@pytest.fixture(scope="module")
def images(count: Callable[[int, int], int]) -> dict[str, list[Grey]]:
    digits = (load_digits().images[: count(300, 1797)] * 15).astype(np.uint8)
    return {
        "digits": [resized(digit, 2, Image.Resampling.BICUBIC) for digit in digits],
        "tiny digits": list(digits),
        "parts": [picture.pixels for picture in draw_batch(count(100, 2000), seed=1)],
    }


@pytest.mark.parametrize("name", ["digits", "tiny digits", "parts"])
def test_images_of_a_kind_are_no_copies_of_each_other(images: dict[str, list[Grey]], name: str) -> None:
    some = images[name]
    # Handwriting repeats itself at 8×8 pixels: a few pairs in a million.
    most = max(2, 1e-5 * len(some) ** 2 / 2) if name == "tiny digits" else 1
    assert len(near_duplicates(some)) <= most


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "parts"])
@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found(images: dict[str, list[Grey]], name: str, kind: str) -> None:
    some = images[name]
    copies = [COPIES[kind](image) for image in some]
    wanted = {(len(some) + number, number) for number in range(len(some))}
    assert wanted - near_duplicates([*some, *copies], len(some)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG 95", "JPEG 75", "WebP 80", "darker", "brighter"])
def test_copies_of_tiny_images_are_found(images: dict[str, list[Grey]], kind: str) -> None:
    some = images["tiny digits"]
    copies = [COPIES[kind](image) for image in some]
    wanted = {(len(some) + number, number) for number in range(len(some))}
    assert len(wanted - near_duplicates([*some, *copies], len(some))) <= 0.002 * len(some)


@pytest.mark.parametrize("quality", [50, 60])
@pytest.mark.parametrize("name", ["digits", "tiny digits"])
def test_copies_that_were_encoded_hard_are_found(
    images: dict[str, list[Grey]], name: str, quality: int
) -> None:
    some = images[name]
    copies = [encoded(image, "JPEG", quality) for image in some]
    pairs = near_duplicates([*some, *copies], len(some))
    assert sum((len(some) + number, number) in pairs for number in range(len(some))) >= 0.95 * len(some)
    others = [pair for pair in pairs if pair[1] < len(some) and pair[0] - len(some) != pair[1]]
    assert len(others) <= 2


def test_several_copies_of_an_image_are_all_found(images: dict[str, list[Grey]]) -> None:
    some = images["digits"][:30]
    copies = [COPIES[kind](image) for kind in COPIES for image in some]
    pairs = near_duplicates([*some, *copies], len(some))
    assert {(newer % 30, older % 30) for newer, older in pairs} == {(number, number) for number in range(30)}
    assert {newer for newer, older in pairs if older < 30} == set(range(30, 30 + len(copies)))


@pytest.mark.parametrize("side", [16, 24, 32])
def test_noisy_exposures_of_small_scenes_in_colour_are_no_copies(side: int) -> None:
    random = np.random.default_rng(7)
    drawn = [draw(CLASSES[number % 3], random, side, 3) for number in range(200)]
    grey = [np.asarray(Image.fromarray(image).convert("L")) for image in drawn]
    assert near_duplicates(grey, 0) == set()


def test_sureties_that_are_not_given_are_made(images: dict[str, list[Grey]]) -> None:
    some = images["parts"][:20]
    copies = [COPIES["JPEG 75"](image) for image in some]
    assert near_duplicates([*some, *copies], 20, given=False) == near_duplicates([*some, *copies], 20)
