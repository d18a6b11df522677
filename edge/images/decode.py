"""Bytes of an image to the uint8 array that training, evaluation, serving and devices all see.

What is decoded, and how odd images are read:
- upright, turned by the EXIF orientation once it is resized;
- grey from colour is ITU-R 601 luma (of a JPEG, its own Y channel); colour from grey repeats it;
- 16 bits become 8 by rounding value / 257; 32-bit integer and floating-point pixels are refused;
- transparent pixels are laid over white, as viewers show them; palettes are expanded;
- CMYK becomes RGB as Pillow converts it; of an animation the first frame counts;
- a JPEG at least twice as large as the target is decoded at 1/2, 1/4 or 1/8 of its size, the smallest that is
  not smaller than the target (as Pillow's `Image.draft` does, bit for bit; half the time at 1/4);
- resized by Pillow's bilinear filter, which averages when it shrinks, in fixed-point arithmetic, hence the
  same on every machine: "stretch" brings both sides to the target, "fit" keeps the aspect ratio, puts the
  image in the middle (the odd pixel right and below) and leaves the rest black.

This is the one entrance for images that somebody else made, on a device and in the product. What is a plain JPEG or
PNG is decoded in this process, everything else by a worker (`decode_pool`); whatever a decoder raises is an
`UnreadableImage` that names the image. A device does without the 80 MB of `imagecodecs`: `png` gives the same pixels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from edge.images.bounds import ImageLimits, image_limits
from edge.images.header import (
    JPEG_MAGIC,
    PNG_END,
    PNG_MAGIC,
    Header,
    UnreadableImage,
    check_claims,
    look,
    stored_size,
    upright,
)
from edge.images.jpeg_segments import normalised, without_left_over
from edge.images.pillow_images import has_16_bits, header_by_pillow, open_image, orientation_by_pillow, said
from edge.images.png import decode_png

try:
    import imagecodecs
except ImportError:
    imagecodecs = None  # type: ignore[assignment]

Pixels = NDArray[np.uint8]
Resize = Literal["fit", "stretch"]
_STRIP_PIXELS = 1 << 20
# As many scans as a progressive JPEG usually has, padded each.
_MENDED_AT_MOST = 12
_TURNED_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, 3),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


class Target(NamedTuple):
    """The frame that an image is brought to, in pixels."""

    height: int
    width: int
    mode: Resize = "stretch"


def decode(
    data: bytes,
    path: str,
    height: int,
    width: int,
    channels: int,
    mode: Resize = "stretch",
    out: Pixels | None = None,
    limits: ImageLimits | None = None,
) -> Pixels:
    """Decode to uint8 of shape (height, width, channels), channels 1 (grey) or 3 (RGB).

    `out`, if given, has that shape and is written and returned. `limits` are by default the process's. Raises
    `UnreadableImage` naming `path`.
    """
    pixels = decode_with_header(data, path, Target(height, width, mode), channels, limits)[1]
    if out is None:
        return pixels
    out[...] = pixels
    return out


def decode_whole(data: bytes, path: str, channels: int, limits: ImageLimits | None = None) -> Pixels:
    """Decode at the image's own upright size to uint8 (H, W, channels). Raises `UnreadableImage`."""
    return decode_with_header(data, path, None, channels, limits)[1]


def decode_with_header(
    data: bytes,
    path: str,
    target: Target | None,
    channels: int,
    limits: ImageLimits | None = None,
    header: Header | None = None,
) -> tuple[Header, Pixels]:
    """The header of an image, and its pixels at the size of `target` or its own. Raises `UnreadableImage`.

    `header` is what `look` found within these limits, where that was asked already.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {channels}")
    limits = limits or image_limits()
    header = header or look(data, path, limits)
    if header is not None and header.plain:
        try:
            return header, decode_here(data, path, header, target, channels)
        except MemoryError as error:
            raise UnreadableImage(path, "cannot be decoded: this machine has no memory left") from error
    # Here, since a process that sees only plain images starts no worker.
    from edge.images.decode_pool import workers

    return workers(limits).decode(data, path, target, channels, limits)


def header_here(data: bytes, path: str, limits: ImageLimits) -> Header:
    """The header of an image by the decoders in this process. Raises as `decode_here` does."""
    try:
        header = look(data, path, limits)
        if header is not None:
            return header
        if data.startswith(PNG_MAGIC):
            width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
            header = Header("PNG", height, width)
        elif (data := normalised(data)).startswith(JPEG_MAGIC):
            if (header := look(data, path, limits)) is not None:
                return header
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            header = Header("JPEG", height, width)
        else:
            header = header_by_pillow(data, path, limits)
            # Pillow itself turns a TIFF upright.
            if header.format == "TIFF":
                return header
        check_claims(path, header.height, header.width, 3, limits)
        return upright(header, orientation_by_pillow(data))
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        raise UnreadableImage(path, f"has a broken header: {said(error)}") from error


def decode_here(data: bytes, path: str, header: Header, target: Target | None, channels: int) -> Pixels:
    """The pixels of an image by the decoders in this process.

    Raises `UnreadableImage` whatever they raise, but for `MemoryError`.
    """
    try:
        if target is None:
            return _turn_upright(_decode(data, path, channels, header)[0], header)
        inner = placement(header.height, header.width, *target)[2:]
        turned = inner if header.orientation < 5 else inner[::-1]
        pixels, covered = _decode(data, path, channels, header, turned)
        pixels = _turn_upright(_stretch(pixels, *turned, covered), header)
        return _on_canvas(pixels, target.height, target.width)
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        raise UnreadableImage(path, f"cannot be decoded: {said(error)}") from error


def resize(pixels: Pixels, height: int, width: int, mode: Resize = "stretch") -> Pixels:
    """Bring uint8 (H, W, C) to (height, width, C)."""
    inner = placement(pixels.shape[0], pixels.shape[1], height, width, mode)[2:]
    return _on_canvas(_stretch(pixels, *inner), height, width)


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


def _on_canvas(pixels: Pixels, height: int, width: int) -> Pixels:
    inner_height, inner_width, channels = pixels.shape
    if (inner_height, inner_width) == (height, width):
        return np.ascontiguousarray(pixels)
    canvas = np.zeros((height, width, channels), np.uint8)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    canvas[top : top + inner_height, left : left + inner_width] = pixels
    return canvas


def _stretch(pixels: Pixels, height: int, width: int, covered: tuple[float, float] | None = None) -> Pixels:
    """`covered` is the height and width that the image takes of `pixels`, if not all."""
    if pixels.shape[:2] == (height, width) == (covered or (height, width)):
        return pixels
    channels = pixels.shape[2]
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels))
    box = (0, 0, covered[1], covered[0]) if covered else None
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    return resized.reshape(height, width, channels)


def _decode(
    data: bytes, path: str, channels: int, header: Header, target: tuple[int, int] | None = None
) -> tuple[Pixels, tuple[float, float] | None]:
    """Pixels not yet turned upright, a JPEG's no larger than it takes for `target` (height, width); and how much
    of them the image covers, if not all."""
    if header.format == "JPEG":
        return _decode_jpeg(data, path, channels, header, target)
    if header.format == "PNG":
        return _decode_png(data, path, channels), None
    return _decode_with_pillow(data, path, channels), None


def _decode_jpeg(
    data: bytes, path: str, channels: int, header: Header, target: tuple[int, int] | None
) -> tuple[Pixels, tuple[float, float] | None]:
    waiting, attempts, problem = [data], 0, ""
    while waiting and attempts < _MENDED_AT_MOST:
        data = waiting.pop()
        try:
            return _decode_strictly(data, path, channels, header, target)
        except UnreadableImage:
            raise
        except ValueError as error:
            warning = str(error)
        waiting += [normalised(data)] if attempts == 0 else without_left_over(data, warning)[::-1]
        problem = warning if attempts < 2 else problem
        attempts += 1
    raise UnreadableImage(path, f"is a truncated or corrupt JPEG: {problem}")


def _decode_strictly(
    data: bytes, path: str, channels: int, header: Header, target: tuple[int, int] | None
) -> tuple[Pixels, tuple[float, float] | None]:
    """Raises `ValueError` for whatever a decoder warns of."""
    if header.plain:
        height, width = stored_size(header)
    else:
        height, width, own_colourspace, _ = simplejpeg.decode_jpeg_header(data)
        if own_colourspace in ("CMYK", "YCCK"):
            return _decode_with_pillow(normalised(data), path, channels), None
    most = min(height // target[0], width // target[1]) if target else 1
    divisor = next((divisor for divisor in (8, 4, 2) if divisor <= most), 1)
    pixels = simplejpeg.decode_jpeg(
        data,
        "GRAY" if channels == 1 else "RGB",
        min_height=-(-height // divisor),
        min_width=-(-width // divisor),
    )
    # A side that the divisor does not divide ends within its last pixel.
    return pixels, (height / divisor, width / divisor) if height % divisor or width % divisor else None


def _decode_png(data: bytes, path: str, channels: int) -> Pixels:
    if PNG_END not in data[-(1 << 16) :]:
        raise UnreadableImage(path, "is a truncated PNG: its end is missing")
    try:
        pixels = decode_png(data, path) if imagecodecs is None else imagecodecs.png_decode(data)
    except UnreadableImage:
        raise
    except _png_errors() as error:
        _give_back_none()
        raise UnreadableImage(path, f"is a truncated or corrupt PNG: {said(error)}") from error
    height, width = pixels.shape[:2]
    if height * width <= _STRIP_PIXELS:
        return _to_channels(_to_8_bits(pixels), channels)
    return _in_strips(height, width, channels, lambda top, bottom: _to_8_bits(pixels[top:bottom]))


def _give_back_none() -> None:
    """One reference to None more: some errors of imagecodecs (2026.3.6) take one that is not theirs, and before
    Python 3.12 a process dies of the last one. One too many harms nothing."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(None))


def load_codecs() -> None:
    """Have `imagecodecs` load what it loads when it is first named, where it is there."""
    if imagecodecs is not None:
        assert imagecodecs.png_decode is not None


def _png_errors() -> tuple[type[Exception], ...]:
    own = (OSError, SyntaxError) if imagecodecs is None else (imagecodecs.PngError,)
    return (ValueError, *own)


def _decode_with_pillow(data: bytes, path: str, channels: int) -> Pixels:
    with open_image(data, path) as image:
        if image.mode in ("I", "F") and not has_16_bits(image):
            raise UnreadableImage(
                path, "has 32-bit pixels, whose range is not known; save it with 8 or 16 bits"
            )
        image.load()
        width, height = image.size
        if image.mode == "I":
            image = Image.fromarray(np.asarray(image).astype(np.uint16))
        if width * height <= _STRIP_PIXELS:
            return _to_channels(_from_pillow(image), channels)
        return _in_strips(
            height, width, channels, lambda top, bottom: _from_pillow(image.crop((0, top, width, bottom)))
        )


def _in_strips(height: int, width: int, channels: int, strip: Callable[[int, int], NDArray[Any]]) -> Pixels:
    """What `strip` gives of rows, in channels; so that no more than the image itself is held several times."""
    pixels = np.empty((height, width, channels), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _to_channels(strip(top, bottom), channels)
    return pixels


def _from_pillow(image: Image.Image) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return _to_8_bits(np.asarray(image).astype(np.uint16))
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
