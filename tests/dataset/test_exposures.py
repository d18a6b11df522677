"""A copy and its original are told from two exposures of one scene by what encoding and resizing make of them."""

import io

import numpy as np
import pytest
from PIL import Image

from edge.images.decode import decode_with_header
from edge.images.jpeg_segments import brightness_table
from tests.dataset.grey_images import Grey, encoded, near_duplicates, resized
from visionops_assets.dataset.deduplication.exposures import (
    ENOUGH,
    Exposure,
    evidence,
    stored_as,
    usual_difference,
)
from visionops_assets.dataset.deduplication.forensics import PLAIN, blocks_of, lost_blocks, table_of_file


def exposures(count: int, noise: float, seed: int, height: int = 88, width: int = 112) -> list[Grey]:
    """One scene of smooth shades, edges and texture that does not move, under a light that does not change."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(60, 180, (6, 7), dtype=np.uint8))
    scene = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC), float)
    scene[height // 3 : height // 2, width // 4 : width // 2] += 40
    scene += random.normal(0, 4, scene.shape)
    made = (scene + random.normal(0, noise, scene.shape) for _ in range(count))
    return [np.rint(one).clip(0, 255).astype(np.uint8) for one in made]


def shown(one: Grey, other: Grey, others: list[Grey]) -> float:
    """The evidence, given so many other exposures."""
    return evidence(*(Exposure(image, usual_difference(image, others, 4)) for image in (one, other)))


@pytest.mark.slow
@pytest.mark.parametrize("others", [0, 6])
@pytest.mark.parametrize("quality", [85, 75, 50])
def test_encoded_exposures_are_told_from_each_other(quality: int, others: int) -> None:
    images = exposures(16, noise=1, seed=1)
    rest = images[:others]
    for number in range(others, 15):
        copy = encoded(images[number], "JPEG", quality)
        assert shown(copy, images[number], rest) >= ENOUGH
        assert shown(copy, images[number + 1], rest) < 0


@pytest.mark.slow
@pytest.mark.parametrize("how", [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
@pytest.mark.parametrize("scale", [0.7, 1.5])
@pytest.mark.parametrize("quality", [None, 85])
def test_resized_exposures_are_told_from_each_other(
    scale: float, how: Image.Resampling, quality: int | None
) -> None:
    images = exposures(10, noise=2, seed=2)
    for number in range(6, 9):
        copy = resized(images[number], scale, how)
        copy = copy if quality is None else encoded(copy, "JPEG", quality)
        assert shown(copy, images[number], images[:6]) >= ENOUGH
        assert shown(copy, images[number + 1], images[:6]) < 0


@pytest.mark.slow
@pytest.mark.parametrize("quality", [95, 90, 75, 50])
def test_what_a_camera_encoded_already_is_no_copy(quality: int) -> None:
    images = [encoded(image, "JPEG", quality) for image in exposures(16, noise=1, seed=3)]
    for others in ([], images[:6]):
        found = [shown(images[number], images[number + 1], others) for number in range(6, 15)]
        assert max(found) < ENOUGH


def test_an_exposure_that_shows_one_thing_more_is_no_copy() -> None:
    image, *others = exposures(8, noise=1, seed=4)
    marked = image.copy()
    marked[60:64, 70:84] = 20
    assert shown(encoded(marked, "JPEG", 75), image, others) < 0
    assert shown(marked, image, others) < 0


@pytest.mark.parametrize("height", [11, 15, 20, 30])
def test_the_edge_counts_too(height: int) -> None:
    image = exposures(1, noise=1, seed=7)[0][:height, : height + 2]
    other = image.copy()
    other[height - 3 :, height - 5 :] += 40
    for quality in (85, 50):
        assert shown(encoded(image, "JPEG", quality), image, []) >= 0
        # So few pixels may not tell, encoded as hard.
        assert shown(encoded(other, "JPEG", quality), image, []) < ENOUGH
    assert shown(other, image, []) < ENOUGH


def test_a_brighter_copy_is_told_though_it_was_encoded() -> None:
    images = exposures(12, noise=2, seed=5)
    for number in range(6, 11):
        copy = encoded((images[number] * 0.8).astype(np.uint8), "JPEG", 85)
        assert shown(copy, images[number], images[:6]) >= ENOUGH
        assert shown(copy, images[number + 1], images[:6]) < ENOUGH


# As cameras, Photoshop and mozjpeg have them: none of the IJG's, and finer where contrast is seen.
FOREIGN = [
    [2 + (row + column) // 2 for row in range(8) for column in range(8)],
    [
        max(2, (3 * row * row + 2 * column * column + row * column) // 3 + 4)
        for row in range(8)
        for column in range(8)
    ],
    [12, 14, 16, 18, 22, 26, 30, 36] * 8,
]


def stored(image: Grey, table: list[int]) -> tuple[Grey, np.ndarray]:
    """An image as a JPEG with a table, as it is decoded, and the table that is read from its file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", qtables=[table])
    header, pixels = decode_with_header(buffer.getvalue(), "a.jpg", None, 1)
    read = table_of_file(buffer.getvalue(), header)
    assert read is not None
    return pixels[..., 0], read


@pytest.mark.parametrize("table", FOREIGN)
def test_the_table_of_a_file_is_read_as_it_is_written(table: list[int]) -> None:
    image = exposures(1, noise=1, seed=9)[0]
    # Pillow takes and gives tables row by row.
    assert stored(image, table)[1].tolist() == table


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_table_of_a_turned_image_is_that_of_its_upright_blocks(orientation: int) -> None:
    image = exposures(1, noise=2, seed=10)[0]
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(image).save(buffer, "JPEG", qtables=[FOREIGN[1]], exif=exif)
    header, pixels = decode_with_header(buffer.getvalue(), "a.jpg", None, 1)
    table = table_of_file(buffer.getvalue(), header)
    assert table is not None
    blocks = blocks_of(pixels[..., 0].astype(float), 64)
    steps = (blocks.coefficients[~lost_blocks(blocks)] / table)[:, table > 4]
    assert np.abs(steps - np.rint(steps)).max() < 0.45


def test_what_has_no_table_says_so() -> None:
    image, buffer = exposures(1, noise=1, seed=9)[0], io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(buffer, "JPEG")
    data = buffer.getvalue()
    for some in (b"", data, data[:40], data[:2] + b"\xff", b"\xff\xd8\xff\xdb\0\3\0"):
        assert brightness_table(some) is None


@pytest.mark.parametrize("table", FOREIGN)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_few_exposures_stored_by_a_table_of_a_cameras_own_are_no_copies(count: int, table: list[int]) -> None:
    made = [stored(image, table) for image in exposures(count, noise=1, seed=11)]
    tables = {number: read for number, (_, read) in enumerate(made)}
    assert not near_duplicates([image for image, _ in made], tables=tables)


@pytest.mark.slow
@pytest.mark.parametrize("table", FOREIGN)
def test_copies_that_a_program_stored_by_a_table_of_its_own_are_found(table: list[int]) -> None:
    originals = exposures(8, noise=1, seed=12)
    made = [stored(image, table) for image in originals]
    tables = {8 + number: read for number, (_, read) in enumerate(made)}
    found = near_duplicates([*originals, *(image for image, _ in made)], tables=tables)
    assert found == {(8 + number, number) for number in range(8)}


def test_what_was_encoded_is_known() -> None:
    image = exposures(1, noise=1, seed=6)[0]
    assert stored_as(image) == PLAIN
    assert all(stored_as(encoded(image, "JPEG", quality)) != PLAIN for quality in (90, 75, 50, 30))


@pytest.mark.parametrize("noise", [1, 3])
@pytest.mark.parametrize("quality", [95, 92, 90, 85, 75, 60, 50, 30])
def test_the_table_that_an_image_was_encoded_by_is_known(quality: int, noise: float) -> None:
    for image in exposures(10, noise, seed=8):
        image[:40] = 90 + np.arange(112) // 28
        assert abs(stored_as(encoded(image, "JPEG", quality)) - quality) <= 1
        assert stored_as(image) not in range(1, 101)


def test_pictures_of_few_levels_are_compared_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    one, other = (np.full((88, 112), 60, np.uint8) for _ in range(2))
    one[20:50, 30:70], other[30:60, 40:80] = 180, 180
    assert shown(one, other, []) < 0
    assert not recwarn.list
