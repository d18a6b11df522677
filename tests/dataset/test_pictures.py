import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from visionops_assets.images.pictures import (
    ANSWER,
    TRUTH,
    Captioned,
    Mark,
    contact_sheet,
    data_uri,
    marked,
    thumbnail,
    thumbnails_markdown,
    written_under,
)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_small_images_are_enlarged_pixel_by_pixel():
    pixels = np.array([[[0], [255]], [[255], [0]]], np.uint8)
    shown = np.asarray(opened(thumbnail(pixels, 16)))
    assert shown.shape == (16, 16)
    assert set(np.unique(shown)) == {0, 255}


def test_large_images_are_reduced_keeping_their_aspect(picture):
    assert opened(thumbnail(picture(1, 300, 600), 60)).size == (60, 30)


def test_data_addresses_hold_the_picture(picture):
    picture_bytes = thumbnail(picture(1), 32)
    kind, _, content = data_uri(picture_bytes).partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    assert base64.b64decode(content) == picture_bytes


def test_metadata_stays_below_its_limit_however_many_images_there_are():
    noise = np.random.default_rng(0).integers(0, 256, (200, 64, 64, 3), dtype=np.uint8)
    markdown = thumbnails_markdown([Captioned(image, "7 → 9 [x](y)") for image in noise])
    assert 30_000 < len(markdown.encode()) <= 50_000
    assert set(re.findall(r"!\[(.*?)\]", markdown)) == {"7 → 9 xy"}
    assert thumbnails_markdown([]) == ""


@pytest.mark.parametrize("n", [0, 1, 7, 25])
def test_a_contact_sheet_shows_every_image(n):
    images = [
        Captioned(np.full((8, 12, 1), 60 + 5 * i, np.uint8), "a very long caption indeed") for i in range(n)
    ]
    sheet = np.asarray(opened(contact_sheet(images, columns=5, side=40)).convert("L"))
    assert {60 + 5 * i for i in range(n)} <= set(np.unique(sheet))


def test_a_thumbnail_stands_above_its_label_whatever_that_is_called(picture):
    labels = ["bolt", "a | b", "<img src=x>", "`x`\n# y", "é→", "7", "8", "*z*"]
    markdown = thumbnails_markdown([Captioned(picture(n), label) for n, label in enumerate(labels)])
    lines = markdown.splitlines()
    assert [line.count("](data:image/") for line in lines] == [6, 0, 0, 2, 0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert [len(row) for row in cells] == [6, 6, 6, 2, 2]
    assert cells[2] + cells[4] == [
        "bolt",
        r"a \| b",
        r"\<img src=x\>",
        r"\`x\` \# y",
        "é→",
        "7",
        "8",
        r"\*z\*",
    ]


@pytest.mark.parametrize(
    ("height", "width"), [(8, 8), (5, 9), (64, 48), (127, 90), (200, 130), (256, 256), (3000, 2000)]
)
def test_an_image_is_looked_at_at_no_less_than_256_pixels(height: int, width: int):
    shown = marked(np.zeros((height, width, 3), np.uint8))
    assert 256 <= max(shown.size) <= 512
    assert shown.width / shown.height == pytest.approx(width / height, rel=0.05)


def test_tiny_images_are_enlarged_by_whole_numbers_and_long_ones_stay_visible():
    pixels = np.arange(100, dtype=np.uint8).reshape(10, 10, 1)
    shown = np.asarray(marked(pixels).convert("L"))
    assert (shown[::26, ::26] == pixels[..., 0]).all() and (shown[:26, :26] == 0).all()
    assert marked(np.zeros((20_000, 400, 1), np.uint8)).size == (64, 3200)


def test_boxes_are_drawn_where_they_are_and_their_text_stays_inside():
    pixels = np.zeros((64, 64, 3), np.uint8)
    plain = np.asarray(marked(pixels))
    for box in ({"x": 16, "y": 24, "w": 20, "h": 12}, {"x": -9, "y": -9, "w": 200, "h": 200}):
        drawn = marked(pixels, [Mark(box, "a label that is longer than its picture is wide", ANSWER)])
        assert drawn.size == (256, 256)
        assert (np.asarray(drawn) != plain).any()
    values = np.asarray(marked(pixels, [Mark({"x": 16, "y": 24, "w": 20, "h": 12}, "")]))
    assert tuple(values[24 * 4, 100]) == TRUTH and tuple(values[120, 16 * 4]) == TRUTH
    assert not values[110, 90].any(), "what is in the box is seen"


def test_text_under_a_picture_makes_it_larger_and_never_wider():
    drawn = written_under(marked(np.zeros((8, 8, 1), np.uint8)), ["0001.png", "ß" * 400])
    assert drawn.width == 256 and drawn.height > 256
