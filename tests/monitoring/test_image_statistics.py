"""What is measured of an image: each number moves with what it is named for, and only with that."""

import colorsys

import numpy as np
import pytest
from numpy.typing import NDArray

from visionops_assets.monitoring.signals import STATISTICS, image_statistics

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 200, (5, 12, 10, 3), dtype=np.uint8)
SIZES = [(40, 48)] * 5


def blurred(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    padded = np.pad(pixels.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    return np.rint((rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 3).astype(np.uint8)


def test_each_number_moves_with_what_it_is_named_for():
    plain = image_statistics(NOISE, SIZES)
    assert list(plain.columns) == list(STATISTICS)
    assert np.isfinite(plain.to_numpy()).all()
    brighter = image_statistics(NOISE + np.uint8(50), SIZES)
    assert (brighter["brightness"] - plain["brightness"]).to_numpy() == pytest.approx(50 / 255, abs=1e-3)
    assert brighter["contrast"].to_numpy() == pytest.approx(plain["contrast"].to_numpy(), abs=1e-4)
    assert (brighter["saturation"] < plain["saturation"]).all()
    assert (image_statistics(blurred(NOISE), SIZES)["sharpness"] < plain["sharpness"] / 2).all()
    assert (image_statistics(NOISE // 64 * 64, SIZES)["entropy"] < plain["entropy"]).all()


def test_a_grey_image_in_one_channel_or_three_measures_the_same():
    grey = NOISE[..., :1]
    three = image_statistics(np.repeat(grey, 3, axis=-1), SIZES)
    assert three.to_numpy() == pytest.approx(image_statistics(grey, SIZES).to_numpy(), abs=1e-5)


def test_an_image_measures_the_same_alone_or_among_others():
    together = image_statistics(NOISE, SIZES)
    for number in range(len(NOISE)):
        alone = image_statistics(NOISE[number : number + 1], SIZES[:1])
        assert alone.to_numpy()[0] == pytest.approx(together.to_numpy()[number], abs=1e-6)


def test_saturation_is_that_of_hsv_and_none_in_black():
    pixels = NOISE.copy()
    pixels[0, :3] = 0
    expected = [
        np.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in image.reshape(-1, 3) / 255]) for image in pixels
    ]
    assert image_statistics(pixels, SIZES)["saturation"].to_numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 5, 3)])
@pytest.mark.parametrize("level", [0, 255])
def test_blank_and_tiny_images_have_finite_numbers(shape: tuple[int, ...], level: int):
    found = image_statistics(np.full(shape, level, np.uint8), [(1, 1)] * shape[0])
    assert np.isfinite(found.to_numpy()).all()
    assert found[["contrast", "sharpness", "entropy"]].to_numpy() == pytest.approx(0, abs=1e-6)


def test_no_image_is_an_empty_table_and_a_missing_size_an_error():
    assert image_statistics(NOISE[:0], []).empty
    with pytest.raises(ValueError, match="5 images need as many sizes, not 1"):
        image_statistics(NOISE, SIZES[:1])
