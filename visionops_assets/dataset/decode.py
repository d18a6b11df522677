"""Bytes of an image to the uint8 array that training, evaluation, serving and devices all see.

What is decoded, and how odd images are read:
- upright, after the EXIF orientation;
- grey from colour is ITU-R 601 luma (of a JPEG, its own Y channel); colour from grey repeats it;
- 16 bits become 8 by rounding value / 257; 32-bit integer and floating-point pixels are refused;
- transparent pixels are laid over white, as viewers show them; palettes are expanded;
- CMYK becomes RGB as Pillow converts it; of an animation the first frame counts;
- resized by Pillow's bilinear filter, which averages when it shrinks, in fixed-point arithmetic, hence the
  same on every machine: "stretch" brings both sides to the target, "fit" keeps the aspect ratio, puts the
  image in the middle (the odd pixel right and below) and leaves the rest black.
"""

import io
from collections.abc import Callable
from typing import Any, Literal

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from visionops_assets.dataset.image_header import (
    MAX_PIXELS,
    PILLOW_ERRORS,
    PILLOW_FORMATS,
    PNG_END,
    Header,
    UnreadableImage,
    probe,
)

Pixels = NDArray[np.uint8]
Resize = Literal["fit", "stretch"]

_TURNED_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, 3),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


def decode(
    data: bytes,
    path: str,
    height: int,
    width: int,
    channels: int,
    mode: Resize = "stretch",
    out: Pixels | None = None,
) -> Pixels:
    """Decode to uint8 of shape (height, width, channels), channels 1 (grey) or 3 (RGB).

    `out`, if given, has that shape and is written and returned. Raises `UnreadableImage` naming `path`.
    """
    pixels = resize(decode_whole(data, path, channels), height, width, mode)
    if out is None:
        return pixels
    out[...] = pixels
    return out


def decode_whole(data: bytes, path: str, channels: int, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode at the image's own upright size to uint8 (H, W, channels). Raises `UnreadableImage`."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {channels}")
    header = probe(data, path, max_pixels)
    if header.format == "JPEG":
        pixels = _decode_jpeg(data, path, channels)
    elif header.format == "PNG":
        pixels = _decode_png(data, path, channels)
    else:
        pixels = _decode_with_pillow(data, path, channels)
    return _turn_upright(pixels, header)


def resize(pixels: Pixels, height: int, width: int, mode: Resize = "stretch") -> Pixels:
    """Bring uint8 (H, W, C) to (height, width, C)."""
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    if mode == "stretch":
        return _stretch(pixels, height, width)
    top, left, inner_height, inner_width = placement(pixels.shape[0], pixels.shape[1], height, width, mode)
    canvas = np.zeros((height, width, pixels.shape[2]), np.uint8)
    inner = _stretch(pixels, inner_height, inner_width)
    canvas[top : top + inner_height, left : left + inner_width] = inner
    return canvas


def placement(
    from_height: int, from_width: int, height: int, width: int, mode: Resize
) -> tuple[int, int, int, int]:
    """Where an image lies in its resized frame: top, left, height, width in pixels. Boxes follow it."""
    if mode == "stretch":
        return 0, 0, height, width
    scale = min(height / from_height, width / from_width)
    inner_height = min(height, max(1, round(from_height * scale)))
    inner_width = min(width, max(1, round(from_width * scale)))
    return (height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width


def _stretch(pixels: Pixels, height: int, width: int) -> Pixels:
    channels = pixels.shape[2]
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels))
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return resized.reshape(height, width, channels)


def _decode_jpeg(data: bytes, path: str, channels: int) -> Pixels:
    if simplejpeg.decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
        return _decode_with_pillow(data, path, channels)
    colourspace = "GRAY" if channels == 1 else "RGB"
    try:
        return simplejpeg.decode_jpeg(data, colourspace)
    except ValueError as error:
        # Many cameras pad the end; every decoder reads these, and nothing of the image is missing.
        if "extraneous bytes before marker 0xd9" in str(error):
            return simplejpeg.decode_jpeg(data, colourspace, strict=False)
        raise UnreadableImage(path, f"is a truncated or corrupt JPEG: {error}") from error


def _decode_png(data: bytes, path: str, channels: int) -> Pixels:
    if PNG_END not in data[-(1 << 16) :]:
        raise UnreadableImage(path, "is a truncated PNG: its end is missing")
    try:
        pixels = imagecodecs.png_decode(data)
    except (imagecodecs.PngError, ValueError) as error:
        raise UnreadableImage(path, f"is a truncated or corrupt PNG: {error}") from error
    return _to_channels(_to_8_bits(pixels), channels)


def _decode_with_pillow(data: bytes, path: str, channels: int) -> Pixels:
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            return _to_channels(_from_pillow(image, path), channels)
    except UnreadableImage:
        raise
    except PILLOW_ERRORS as error:
        raise UnreadableImage(path, f"cannot be decoded: {error}") from error


def _from_pillow(image: Image.Image, path: str) -> Pixels:
    if image.mode.startswith("I;16"):
        return _to_8_bits(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        raise UnreadableImage(path, "has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return np.asarray(image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))


def _to_8_bits(pixels: NDArray[Any]) -> Pixels:
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


def _to_channels(pixels: Pixels, channels: int) -> Pixels:
    """uint8 (H, W), or (H, W, 1 to 4) with alpha last when even, to (H, W, channels)."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] in (2, 4):
        pixels = _over_white(pixels)
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]


def _over_white(pixels: Pixels) -> Pixels:
    colour, alpha = pixels[..., :-1].astype(np.uint32), pixels[..., -1:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _turn_upright(pixels: Pixels, header: Header) -> Pixels:
    turn = _TURNED_UPRIGHT.get(header.orientation)
    return np.ascontiguousarray(turn(pixels)) if turn else pixels
