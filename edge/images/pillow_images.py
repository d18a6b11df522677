"""Images that Pillow opens, which runs where it may be killed: its plugins read what few other programs write."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from edge.images.bounds import ImageLimits
from edge.images.header import Header, UnreadableImage, check_claims, check_directories, check_frames

# Formats that Pillow reads without calling other programs (EPS would start Ghostscript).
PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")

_ORIENTATION_TAG = 0x0112
# What holds no frame of its own between two that do.
_PARTS_OF_A_FRAME = 8
_DEEP = {"I": 4, "F": 4, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
_LONGEST_SAID = 200
_OTHERS = (
    (b"%PDF", "a PDF; export its pages as PNG"),
    (b"PK\3\4", "a zip archive; unpack it"),
    (b"{", "JSON"),
)


def said(error: Exception) -> str:
    """What a decoder says, in one line of printable text."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(each if each.isprintable() else "?" for each in text)[:_LONGEST_SAID]


@contextmanager
def open_image(data: bytes, path: str) -> Iterator[Image.Image]:
    """An image opened by Pillow. Raises `UnreadableImage` for what it does not know, and what Pillow raises."""
    try:
        image = Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    except UnidentifiedImageError as error:
        if (other := _what_else(data)) is not None:
            raise UnreadableImage(path, f"is not an image but {other}") from error
        known = ", ".join(PILLOW_FORMATS)
        raise UnreadableImage(
            path, f"is not an image ({known} are read); starts with {data[:8]!r}"
        ) from error
    with image:
        yield image


def _what_else(data: bytes) -> str | None:
    """What often lies under the name of an image."""
    head = data[:512].lstrip()
    if head[:9].lower() == b"<!doctype" or head[:5].lower() == b"<html":
        return "a web page; get the image itself, the address may ask for a login"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS; fetch the files with `git lfs pull`"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim"):
            return "HEIC; convert it to JPEG, for example with `heif-convert` or `magick`"
        if brand not in (b"avif", b"avis"):
            return "a video; take frames from it, for example with `ffmpeg`"
    if head.startswith((b"<?xml", b"<svg")):
        return "XML or SVG; export it as PNG"
    return next((name for magic, name in _OTHERS if data.startswith(magic)), None)


def header_by_pillow(data: bytes, path: str, limits: ImageLimits) -> Header:
    """The header as Pillow reads it, not yet turned upright. Raises `UnreadableImage`, and what Pillow raises."""
    _check_before_opening(data, path, limits)
    with open_image(data, path) as image:
        pixel_bytes = _DEEP.get(image.mode, len(image.getbands()))
        check_claims(path, image.height, image.width, pixel_bytes, limits)
        frames = getattr(image, "n_frames", 1)
        check_frames(path, frames, limits)
        bits = 16 if has_16_bits(image) else 8
        return Header(image.format or "?", image.height, image.width, frames=frames, bits=bits)


def has_16_bits(image: Image.Image) -> bool:
    """Whether values are of 16 bits; those of a PGM with more than 8 Pillow brings to 16, in the mode for 32."""
    return image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")


def orientation_by_pillow(data: bytes) -> int:
    """The orientation tag, or 1 where the EXIF block says nothing that can be used."""
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except MemoryError:
        raise
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _check_before_opening(data: bytes, path: str, limits: ImageLimits) -> None:
    """Refuse what opening alone would take long or much memory for."""
    try:
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            _check_webp(data, path, limits)
        elif data[:3] == b"GIF":
            _check_gif(data, path, limits)
        elif data[:2] in (b"II", b"MM"):
            _check_tiff(data, path, limits)
    except (struct.error, IndexError):
        # Cut off; Pillow says where.
        return


def _check_webp(data: bytes, path: str, limits: ImageLimits) -> None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        check_claims(path, height, width, 4 if data[20] & 0x10 else 3, limits)
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        check_claims(path, height, width, 4 if bits >> 28 & 1 else 3, limits)
    elif kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        check_claims(path, height & 0x3FFF, width & 0x3FFF, 3, limits)
    place = frames = parts = 0
    place = 12
    while place + 8 <= len(data) and parts <= _PARTS_OF_A_FRAME * limits.frames:
        kind, length = struct.unpack_from("<4sI", data, place)
        frames, parts = frames + (kind == b"ANMF"), parts + 1
        check_frames(path, frames, limits)
        place += 8 + length + length % 2


def _check_gif(data: bytes, path: str, limits: ImageLimits) -> None:
    place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    frames = parts = 0
    while parts <= _PARTS_OF_A_FRAME * limits.frames:
        kind, parts = data[place], parts + 1
        if kind == 0x2C:
            frames += 1
            check_frames(path, frames, limits)
            flags = data[place + 9]
            place += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        elif kind == 0x21:
            place += 2
        else:
            return
        while length := data[place]:
            place += 1 + length
        place += 1


def _check_tiff(data: bytes, path: str, limits: ImageLimits) -> None:
    order = "<" if data[:2] == b"II" else ">"
    (magic,) = struct.unpack_from(order + "H", data, 2)
    # BigTIFF has longer numbers.
    count, size, following, first = ("Q", 20, "Q", 8) if magic == 43 else ("H", 12, "I", 4)
    (place,) = struct.unpack_from(order + following, data, first)
    seen: set[int] = set()
    while place and place not in seen:
        seen.add(place)
        check_directories(path, len(seen), limits)
        (entries,) = struct.unpack_from(order + count, data, place)
        check_directories(path, entries, limits, "entries of a directory")
        place += struct.calcsize(order + count) + size * entries
        (place,) = struct.unpack_from(order + following, data, place)
