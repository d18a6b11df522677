"""A PNG read by Pillow as libpng reads it: where no faster decoder is installed, pixels are the same bit for bit.

Pillow is given what the pixels are made of and nothing else of the file: no text, no profile and no EXIF block can
keep it from them. Of 16 bits a channel it keeps the upper 8 in colour; the lower ones are read by a second pass in the
other byte order. Transparent colours are found here, since Pillow looks for them after it has scaled the pixels.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.image_header import PNG_MAGIC, UnreadableImage

_CHUNK = struct.Struct(">I4s")
_SIZE = struct.Struct(">IIBBBBB")
_GREY, _COLOUR, _PALETTE, _GREY_ALPHA, _COLOUR_ALPHA = 0, 2, 3, 4, 6
# A palette that ends early goes on in black.
_COLOURS = 256


class _Parts(NamedTuple):
    """Width, height, bits, colour type, compression, filter and interlace; palette, transparency, pixels."""

    size: tuple[int, int, int, int, int, int, int]
    palette: bytes
    transparent: bytes
    pixels: bytes


def decode_png(data: bytes, path: str) -> NDArray[Any]:
    """Pixels uint8 or uint16 [H, W] or [H, W, C], C with alpha last when even. Raises `UnreadableImage`, and whatever
    Pillow raises."""
    parts = _parts(data, path)
    _, _, bits, colour, *_ = parts.size
    if colour == _PALETTE:
        return _of_palette(parts)
    if bits < 16:
        return _with_alpha(parts, _opened(parts, bits, colour))
    if colour == _GREY:
        return _with_alpha(parts, _opened(parts, bits, colour).astype(np.uint16))
    if colour == _GREY_ALPHA:
        # Two numbers of 16 bits are four of 8.
        return _deep(_opened(parts, 8, _COLOUR_ALPHA)[..., ::2], _opened(parts, 8, _COLOUR_ALPHA)[..., 1::2])
    order = "RGB;16" if colour == _COLOUR else "RGBA;16"
    upper, lower = (_opened(parts, bits, colour, order + each) for each in "BL")
    return _with_alpha(parts, _deep(upper, lower))


def _deep(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return upper * np.uint16(256) + lower


def _opened(parts: _Parts, bits: int, colour: int, order: str | None = None) -> NDArray[Any]:
    """The pixels as Pillow reads them; `order` is how it is told that they are stored."""
    width, height, *_, interlace = parts.size
    size = _SIZE.pack(width, height, bits, colour, 0, 0, interlace)
    palette = parts.palette if colour == _PALETTE else b""
    file = PNG_MAGIC + b"".join(
        _CHUNK.pack(len(content), name) + content + zlib.crc32(name + content).to_bytes(4, "big")
        for name, content in ((b"IHDR", size), (b"PLTE", palette), (b"IDAT", parts.pixels), (b"IEND", b""))
        if content or name == b"IEND"
    )
    with Image.open(io.BytesIO(file), formats=("PNG",)) as image:
        if order is not None:
            image.tile = [each._replace(args=order) for each in image.tile]  # type: ignore[attr-defined]
        image.load()
        return np.asarray(image.convert("L") if image.mode == "1" else image)


def _of_palette(parts: _Parts) -> NDArray[np.uint8]:
    colours = np.frombuffer(parts.palette.ljust(3 * _COLOURS, b"\0"), np.uint8).reshape(_COLOURS, 3)
    if parts.transparent:
        alpha = np.frombuffer(parts.transparent.ljust(_COLOURS, b"\xff"), np.uint8)
        colours = np.hstack([colours, alpha[:, None]])
    return colours[_opened(parts, parts.size[2], _PALETTE)]


def _with_alpha(parts: _Parts, pixels: NDArray[Any]) -> NDArray[Any]:
    """The pixels, those of the transparent colour transparent."""
    _, _, bits, colour, *_ = parts.size
    if not parts.transparent or colour not in (_GREY, _COLOUR):
        return pixels
    most = np.iinfo(pixels.dtype).max
    key = np.frombuffer(parts.transparent, ">u2").astype(np.uint32) & ((1 << bits) - 1)
    if bits < 8:
        key = key * most // ((1 << bits) - 1)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    shown = (pixels != key.astype(pixels.dtype)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, shown.astype(pixels.dtype) * most], axis=2)


def _parts(data: bytes, path: str) -> _Parts:
    """What the pixels are made of. Raises `UnreadableImage` where libpng would find it damaged."""
    place, end = len(PNG_MAGIC), len(data)
    size: Any = None
    palette = transparent = b""
    pixels: list[bytes] = []
    while True:
        if place + 12 > end:
            raise UnreadableImage(path, "is a truncated PNG: its end is missing")
        length, name = _CHUNK.unpack_from(data, place)
        content = data[place + 8 : place + 8 + length]
        checked = data[place + 8 + length : place + 12 + length]
        place += 12 + length
        whole = zlib.crc32(name + content).to_bytes(4, "big") == checked
        if name == b"IEND":
            break
        if not name[0] & 0x20 and (not whole or name not in (b"IHDR", b"PLTE", b"IDAT")):
            raise UnreadableImage(path, f"is a truncated or corrupt PNG: its {name!r} is damaged")
        if name == b"IHDR":
            size = _SIZE.unpack(content)
        elif name == b"PLTE":
            palette = content
        elif name == b"tRNS" and whole and not pixels:
            transparent = content
        elif name == b"IDAT":
            pixels.append(content)
    if size is None or not pixels:
        raise UnreadableImage(path, "is a truncated or corrupt PNG: it has no pixels")
    most = {_GREY: 2, _COLOUR: 6, _PALETTE: len(palette) // 3}.get(size[3], 0)
    if len(transparent) > most or (size[3] != _PALETTE and len(transparent) != most):
        transparent = b""
    return _Parts(size, palette, transparent, b"".join(pixels))
