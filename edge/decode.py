"""Bytes of an image to the uint8 array that a model takes: pixel for pixel what training saw, with Pillow alone.

The rules are those of the product's `visionops_assets/dataset/decode.py`; a test holds both to the same pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

# Pillow's own bound, a quarter of a GiB of RGB: beyond it an attack is likelier than a photograph.
MAX_PIXELS = 89_478_485
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_ORIENTATION = 0x0112
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, 3),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


class UnreadableImage(ValueError):
    """An image that cannot be decoded, or must not be."""


class Decoded(NamedTuple):
    """Pixels uint8 [height, width, channels], and the size of the upright image they were made of."""

    pixels: Pixels
    height: int
    width: int


def decode(data: bytes, height: int, width: int, channels: int, mode: str) -> Decoded:
    """Decode to a model's input; channels 1 (grey) or 3 (RGB), mode `fit` or `stretch`. Raises `UnreadableImage`,
    whatever Pillow raises."""
    if not data:
        raise UnreadableImage("is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _decoded(image, data, (height, width), channels, mode)
    except UnreadableImage:
        raise
    except Exception as error:
        raise UnreadableImage(f"cannot be decoded: {error}") from error


def placement(
    from_height: int, from_width: int, height: int, width: int, mode: str
) -> tuple[int, int, int, int]:
    """Where an image lies in its resized frame: top, left, height, width in pixels."""
    if mode == "stretch":
        return 0, 0, height, width
    scale = min(height / from_height, width / from_width)
    inner_height = min(height, max(1, round(from_height * scale)))
    inner_width = min(width, max(1, round(from_width * scale)))
    return (height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width


def _decoded(image: Image.Image, data: bytes, size: tuple[int, int], channels: int, mode: str) -> Decoded:
    if image.width < 1 or image.height < 1:
        raise UnreadableImage("has no pixels")
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(f"claims {image.width}×{image.height} pixels, more than {MAX_PIXELS:,}")
    orientation = _orientation(image, data)
    upright = (image.height, image.width) if orientation < 5 else (image.width, image.height)
    inner = placement(*upright, *size, mode)[2:]
    target = inner if orientation < 5 else (inner[1], inner[0])
    box = None
    if image.format == "PNG":
        _check_png(data)
    if image.format == "JPEG" and image.mode != "CMYK":
        # Decoded at 1/2, 1/4 or 1/8, the smallest that is not smaller than the target; grey is its own Y.
        drafted = image.draft("L" if channels == 1 else None, (target[1], target[0]))
        box = drafted[1] if drafted is not None else None
    pixels = _to_channels(_pixels(image), channels)
    pixels = _stretched(pixels, *target, box)
    turn = _UPRIGHT.get(orientation)
    pixels = np.ascontiguousarray(turn(pixels)) if turn else pixels
    return Decoded(_on_canvas(pixels, *size), *upright)


def _check_png(data: bytes) -> None:
    if _PNG_END not in data[-(1 << 16) :]:
        raise UnreadableImage("is a truncated PNG: its end is missing")
    depth, colour = data[24], data[25]
    if depth == 16 and colour in (2, 4, 6):
        # Pillow keeps the upper 8 bits of these, training rounds: no pixels rather than others.
        raise UnreadableImage(
            "is a PNG of 16 bits in colour or with transparency; save it with 8 bits, or grey"
        )


def _orientation(image: Image.Image, data: bytes) -> int:
    if image.format == "JPEG":
        turned = data.find(b"Exif\0\0", 0, 1 << 17) >= 0
    else:
        # Pillow itself turns a TIFF upright.
        turned = b"eXIf" in data if data.startswith(_PNG) else image.format != "TIFF"
    if not turned:
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return found if found in range(1, 9) else 1


def _pixels(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        return ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise UnreadableImage("has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return np.asarray(image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))


def _to_channels(pixels: Pixels, channels: int) -> Pixels:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] in (2, 4):
        colour, alpha = pixels[..., :-1].astype(np.uint32), pixels[..., -1:].astype(np.uint32)
        # Laid over white, as viewers show it.
        pixels = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]


def _stretched(pixels: Pixels, height: int, width: int, box: Any) -> Pixels:
    """`box` is what the image takes of its pixels, as Pillow's draft says: a side may end within its last pixel."""
    whole = (0, 0, pixels.shape[1], pixels.shape[0])
    box = whole if box is None else box
    if pixels.shape[:2] == (height, width) and tuple(box) == whole:
        return pixels
    channels = pixels.shape[2]
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels))
    resized = image.resize((width, height), Image.Resampling.BILINEAR, None if tuple(box) == whole else box)
    return np.asarray(resized).reshape(height, width, channels)


def _on_canvas(pixels: Pixels, height: int, width: int) -> Pixels:
    inner_height, inner_width, channels = pixels.shape
    if (inner_height, inner_width) == (height, width):
        return np.ascontiguousarray(pixels)
    canvas = np.zeros((height, width, channels), np.uint8)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    canvas[top : top + inner_height, left : left + inner_width] = pixels
    return canvas
