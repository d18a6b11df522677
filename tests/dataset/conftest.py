"""Images made for the tests: small, different from each other, and of every odd kind."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image


def encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """`picture(seed, height, width)`: a smooth RGB image (uint8), so that JPEG and resizing keep it."""

    def make(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))

    return make


@pytest.fixture(scope="session")
def png(picture: Callable[..., np.ndarray]) -> Callable[..., bytes]:
    return lambda seed, *size: encode(Image.fromarray(picture(seed, *size)), "PNG")


@pytest.fixture(scope="session")
def jpeg(picture: Callable[..., np.ndarray]) -> Callable[..., bytes]:
    return lambda seed, *size: encode(Image.fromarray(picture(seed, *size)), "JPEG", quality=92)
