import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from visionops_assets.dataset.pictures import (
    Captioned,
    contact_sheet,
    data_uri,
    thumbnail,
    thumbnails_markdown,
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
