"""A PNG read by Pillow as libpng reads it: where no faster decoder is installed, pixels are the same bit for bit.

Pillow is given what the pixels are made of and nothing else of the file: no text, no profile and no EXIF block can
keep it from them. Of 16 bits a channel it keeps the upper 8 in colour; the lower ones are read by a second pass in the
other byte order. Transparent colours are found here, since Pillow looks for them after it has scaled the pixels.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.images.header import PNG_MAGIC, UnreadableImage

_CHUNK = struct.Struct(">I4s")
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT"})
# The bit of a name's first letter that says whether a reader may leave it out, and must be 0 in its third.
_ANCILLARY = 0x20
_PIECE = 1 << 16
# How much libpng reads of a part at a time (PNG_IDAT_READ_SIZE).
_PIECE_OF_LIBPNG = 4096
_IHDR = struct.Struct(">IIBBBBB")
_GREY, _COLOUR, _PALETTE, _GREY_ALPHA, _COLOUR_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _COLOUR: 3, _PALETTE: 1, _GREY_ALPHA: 2, _COLOUR_ALPHA: 4}
_BITS = {
    _GREY: (1, 2, 4, 8, 16),
    _COLOUR: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _GREY_ALPHA: (8, 16),
    _COLOUR_ALPHA: (8, 16),
}
# Where the pixels of each pass begin, and how far apart they are: left, top, across, down (PNG, section 8.1).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# A palette that ends early goes on in black.
_COLOURS = 256


class _Parts(NamedTuple):
    """What pixels are made of: the size, the palette of a PNG that has one, the transparent colour or the alpha of
    the palette, and the rows with their filters."""

    size: _Size
    palette: bytes
    transparent: bytes
    rows: bytes


class _Size(NamedTuple):
    width: int
    height: int
    bits: int
    colour: int
    compression: int
    filters: int
    interlace: int

    @property
    def possible(self) -> bool:
        return (
            self.width > 0
            and self.height > 0
            and self.bits in _BITS.get(self.colour, ())
            and (self.compression, self.filters) == (0, 0)
            and self.interlace in (0, 1)
        )

    @property
    def lengths_of_rows(self) -> Iterator[int]:
        """How many bytes each row has with its filter, pass by pass."""
        bits = self.bits * _CHANNELS[self.colour]
        for left, top, across, down in _ADAM7 if self.interlace else ((0, 0, 1, 1),):
            columns = (self.width - left + across - 1) // across
            if columns > 0:
                yield from repeat(1 + (columns * bits + 7) // 8, (self.height - top + down - 1) // down)


def decode_png(data: bytes, path: str) -> NDArray[Any]:
    """Pixels uint8 or uint16 [H, W] or [H, W, C], C with alpha last when even. Raises `UnreadableImage`, and whatever
    Pillow raises."""
    parts = _parts(data, path)
    bits, colour = parts.size.bits, parts.size.colour
    if colour == _PALETTE:
        return _of_palette(parts)
    if bits < 16:
        return _with_alpha(parts, _opened(parts, bits, colour))
    if colour == _GREY:
        return _with_alpha(parts, _opened(parts, bits, colour).astype(np.uint16))
    if colour == _GREY_ALPHA:
        # Two numbers of 16 bits are four of 8.
        stored = _opened(parts, 8, _COLOUR_ALPHA)
        return _deep(stored[..., ::2], stored[..., 1::2])
    order = "RGB;16" if colour == _COLOUR else "RGBA;16"
    upper, lower = (_opened(parts, bits, colour, order + each) for each in "BL")
    return _with_alpha(parts, _deep(upper, lower))


def _deep(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return upper * np.uint16(256) + lower


def _opened(parts: _Parts, bits: int, colour: int, order: str | None = None) -> NDArray[Any]:
    """The pixels as Pillow reads them; `order` is how it is told that they are stored."""
    size = _IHDR.pack(*parts.size._replace(bits=bits, colour=colour))
    # The palette is applied here; Pillow opens none without. Its pixels are not compressed again.
    palette = bytes(3 * _COLOURS) if colour == _PALETTE else b""
    file = PNG_MAGIC + b"".join(
        _CHUNK.pack(len(content), name) + content + zlib.crc32(name + content).to_bytes(4, "big")
        for name, content in (
            (b"IHDR", size),
            (b"PLTE", palette),
            (b"IDAT", zlib.compress(parts.rows, 0)),
            (b"IEND", b""),
        )
        if content or name == b"IEND"
    )
    with Image.open(io.BytesIO(file), formats=("PNG",)) as image:
        if order is not None:
            image.tile = [each._replace(args=order) for each in image.tile]
        image.load()
        return np.asarray(image.convert("L") if image.mode == "1" else image)


def _of_palette(parts: _Parts) -> NDArray[np.uint8]:
    colours = np.frombuffer(parts.palette.ljust(3 * _COLOURS, b"\0"), np.uint8).reshape(_COLOURS, 3)
    if parts.transparent:
        alpha = np.frombuffer(parts.transparent.ljust(_COLOURS, b"\xff"), np.uint8)
        colours = np.hstack([colours, alpha[:, None]])
    found: NDArray[np.uint8] = colours[_opened(parts, parts.size.bits, _PALETTE)]
    return found


def _with_alpha(parts: _Parts, pixels: NDArray[Any]) -> NDArray[Any]:
    """The pixels, those of the transparent colour transparent."""
    if not parts.transparent:
        return pixels
    bits = parts.size.bits
    most = np.iinfo(pixels.dtype).max
    key = np.frombuffer(parts.transparent, ">u2").astype(np.uint32) & ((1 << bits) - 1)
    if bits < 8:
        key = key * most // ((1 << bits) - 1)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    shown = (pixels != key.astype(pixels.dtype)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, shown.astype(pixels.dtype) * most], axis=2)


def _parts(data: bytes, path: str) -> _Parts:
    """What the pixels are made of. Raises `UnreadableImage` where libpng would not read on."""

    read = _Reader(path)
    for name, content, whole in _chunks(data):
        if name != b"IDAT" and read.pixels:
            # What follows the pixels is not read.
            break
        read.take(name, content, whole)
    return read.end()


class _Reader:
    """Takes the parts of a file one after the other; each raises `UnreadableImage` where it cannot be."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._size: _Size | None = None
        self._palette = self._transparent = b""
        self.pixels: list[bytes] = []

    def take(self, name: bytes, content: bytes, whole: bool) -> None:
        """The next part; `whole` where its check is right."""
        self._require_in_place(name, whole)
        if name == b"IHDR":
            self._size = _Size(*_IHDR.unpack(content))
            if not self._size.possible:
                raise self._damaged("its size or kind is none of a PNG")
        elif name == b"IDAT":
            self.pixels.append(content)
        elif self._size is not None and name == b"PLTE" and self._size.colour == _PALETTE:
            self._take_palette(content, self._size)
        elif self._size is not None and name == b"tRNS" and whole and not self._transparent:
            self._take_transparent(content, self._size)

    def end(self) -> _Parts:
        """What the pixels are made of, once all is taken."""
        size = self._size
        if size is None or not self.pixels or (size.colour == _PALETTE and not self._palette):
            raise self._damaged("it has no pixels")
        try:
            rows = _inflated(self.pixels, size.lengths_of_rows)
        except zlib.error as error:
            raise self._damaged(str(error)) from error
        if rows is None:
            raise self._damaged("Not enough image data")
        return _Parts(size, self._palette, self._transparent, rows)

    def _require_in_place(self, name: bytes, whole: bool) -> None:
        critical = not name[0] & _ANCILLARY
        wrong = critical and (not whole or name not in _CRITICAL or (self._size is None) != (name == b"IHDR"))
        if wrong or not name.isalpha() or name[2] & _ANCILLARY:
            raise self._damaged(f"its part {name!r} is damaged or out of place")

    def _take_palette(self, content: bytes, size: _Size) -> None:
        if self._palette or not content or len(content) % 3 or len(content) > 3 * _COLOURS:
            raise self._damaged("its palette is none")
        self._palette = content[: 3 << size.bits]

    def _take_transparent(self, content: bytes, size: _Size) -> None:
        most = {_GREY: 2, _COLOUR: 6, _PALETTE: len(self._palette) // 3}.get(size.colour, 0)
        if len(content) == most or (size.colour == _PALETTE and len(content) < most):
            self._transparent = content

    def _damaged(self, what: str) -> UnreadableImage:
        return UnreadableImage(self._path, f"is a truncated or corrupt PNG: {what}")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """The parts of a file: name, content, and whether its check is right."""
    place = len(PNG_MAGIC)
    while place + 12 <= len(data):
        length, name = _CHUNK.unpack_from(data, place)
        end = place + 8 + length
        content = data[place + 8 : end]
        yield name, content, zlib.crc32(name + content).to_bytes(4, "big") == data[end : end + 4]
        place = end + 4


def _inflated(contents: list[bytes], lengths: Iterable[int]) -> bytes | None:
    """Rows of these lengths in bytes; None where a stream does not have them, or does not end. Raises `zlib.error`.

    What follows them is read and dropped, whatever it is; only its end has to be there. The stream is taken row by row
    and in the pieces that libpng takes: a wrong checksum is an error only where the last row asks for its piece.
    """
    stream = zlib.decompressobj()
    pieces = (
        content[start : start + _PIECE_OF_LIBPNG]
        for content in contents
        for start in range(0, len(content), _PIECE_OF_LIBPNG)
    )
    rows, left = bytearray(), b""
    for length in lengths:
        end = len(rows) + length
        while len(rows) < end:
            left = left or next(pieces, b"")
            if not left or stream.eof:
                return None
            rows += stream.decompress(left, end - len(rows))
            left = stream.unconsumed_tail
    try:
        while not stream.eof and (left := left or next(pieces, b"")):
            stream.decompress(left, _PIECE)
            left = stream.unconsumed_tail
    except zlib.error:
        return bytes(rows)
    return bytes(rows) if stream.eof else None
