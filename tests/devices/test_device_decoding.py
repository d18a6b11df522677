"""A device sees pixel for pixel what training saw, though it has no fast decoder for PNG."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.images import decode as decoder
from edge.images.bounds import ImageLimits
from edge.images.decode import Pixels, Resize, Target, decode, decode_here, header_here
from edge.images.header import UnreadableImage

LIMITS = ImageLimits()
SIZES = ((8, 8), (97, 141), (1, 5), (33, 57))
TARGETS: tuple[tuple[int, int, Resize], ...] = ((8, 8, "stretch"), (32, 24, "fit"), (33, 57, "stretch"))


def on_a_device(data: bytes, target: Target | None, channels: int) -> Pixels:
    """Decoded without what a device does not install. Raises `UnreadableImage`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "imagecodecs", None)
        header = header_here(data, "a frame", LIMITS)
        return decode_here(data, "a frame", header, target, channels)


def corpus(sizes: Sequence[tuple[int, int]] = SIZES) -> Iterator[tuple[str, bytes]]:
    """Images of every mode, format, orientation and kind of JPEG that cameras write."""
    generator = np.random.default_rng(7)
    for height, width in sizes:
        grey = Image.fromarray(generator.integers(0, 255, (height, width), dtype=np.uint8))
        colour = Image.fromarray(generator.integers(0, 255, (height, width, 3), dtype=np.uint8))
        smooth = Image.fromarray(np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8))
        deep = Image.fromarray(generator.integers(0, 65535, (height, width), dtype=np.uint16))
        alpha = Image.fromarray(generator.integers(0, 255, (height, width, 4), dtype=np.uint8))
        bits, palette = smooth.convert("1"), colour.quantize(17)
        size = f"{width}×{height}"
        kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
            "grey png": (grey, {"format": "PNG"}),
            "colour png": (colour, {"format": "PNG"}),
            "16 bit png": (deep, {"format": "PNG"}),
            "png with alpha": (alpha, {"format": "PNG"}),
            "grey png with alpha": (alpha.convert("LA"), {"format": "PNG"}),
            "png of 1 bit": (bits, {"format": "PNG"}),
            "png with a palette": (palette, {"format": "PNG"}),
            "png with a transparent colour": (palette, {"format": "PNG", "transparency": 3}),
            "grey png with a transparent grey": (grey, {"format": "PNG", "transparency": 9}),
            "colour png with a transparent colour": (colour, {"format": "PNG", "transparency": (1, 2, 3)}),
            "grey jpeg": (grey, {"format": "JPEG", "quality": 90}),
            "cmyk jpeg": (colour.convert("CMYK"), {"format": "JPEG"}),
            "progressive jpeg": (colour, {"format": "JPEG", "progressive": True}),
            "bmp": (colour, {"format": "BMP"}),
            "gif": (palette, {"format": "GIF"}),
            "webp": (colour, {"format": "WEBP", "lossless": True}),
            "webp with alpha": (alpha, {"format": "WEBP", "lossless": True}),
            "tiff": (colour, {"format": "TIFF"}),
            "16 bit tiff": (deep, {"format": "TIFF"}),
            "avif": (colour, {"format": "AVIF"}),
            "jpeg 2000": (colour, {"format": "JPEG2000"}),
            "ppm": (colour, {"format": "PPM"}),
        }
        for sampling in (0, 1, 2):
            kinds[f"jpeg, subsampling {sampling}"] = (colour, {"format": "JPEG", "subsampling": sampling})
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            for form in ("JPEG", "PNG", "TIFF", "WEBP"):
                kinds[f"{form} turned {orientation}"] = (colour, {"format": form, "exif": exif})
        for kind, (image, options) in kinds.items():
            buffer = io.BytesIO()
            image.save(buffer, **options)
            yield f"{kind} {size}", buffer.getvalue()


def test_the_same_pixels_bit_for_bit(count: Callable[[int, int], int]) -> None:
    decoded = 0
    for name, data in corpus(SIZES[-count(1, len(SIZES)) :]):
        for height, width, mode in TARGETS:
            for channels in (1, 3):
                ours = decode(data, name, height, width, channels, mode)
                theirs = on_a_device(data, Target(height, width, mode), channels)
                assert theirs.shape == ours.shape and theirs.dtype == ours.dtype
                assert np.array_equal(theirs, ours), (name, height, width, channels, mode)
                decoded += 1
    assert decoded > count(300, 1000)


def broken() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "noise", bytes(range(256))
    for name, data in corpus(SIZES[-1:]):
        yield f"half of {name}", data[: len(data) // 2]
        yield f"little of {name}", data[:20]


def test_what_training_cannot_read_a_device_does_not_guess() -> None:
    for name, data in broken():
        try:
            ours = decode(data, name, 8, 8, 3)
        except UnreadableImage:
            with pytest.raises(UnreadableImage):
                on_a_device(data, Target(8, 8), 3)
            continue
        assert np.array_equal(on_a_device(data, Target(8, 8), 3), ours), name


def test_whatever_pillow_raises_is_an_unreadable_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to decode image: Missing or empty image item")

    monkeypatch.setattr(Image, "open", poisoned)
    with pytest.raises(UnreadableImage, match="Missing or empty image item"):
        on_a_device(b"an image", Target(8, 8), 3)
