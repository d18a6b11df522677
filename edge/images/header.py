"""What an image says of itself before any pixel is decoded, and whether it may be decoded in this process.

JPEG and PNG are read here, a few bytes at a time and by no decoder: their sizes, scans, chunks and EXIF orientation.
One that is small and says nothing odd is `plain`. Whatever else somebody sends is looked at by a worker, which may be
killed (`decode_pool`).
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from edge import EdgeError
from edge.images.bounds import DIRECTORIES, FRAMES, MEMORY, SCANS, ImageLimits

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
JPEG_MAGIC = b"\xff\xd8\xff"

# What stays in the process: so many pixels, and so many times pixels in all scans of a progressive JPEG.
PLAIN_PIXELS = 4_000_000
_PLAIN_WORK = 40_000_000
_PLAIN_PARTS = 1000
# A thousand times as much comes of what is compressed at most: of text, and of pixels beyond those that are stated.
_PLAIN_TEXT, _PLAIN_PIXEL_DATA = 16 << 10, 2 << 20

_SEQUENTIAL = frozenset({0xC0, 0xC1})
_PROGRESSIVE = 0xC2
_SCAN, _APPLICATION_1 = 0xDA, 0xE1
_LENGTHY = frozenset({0xC4, 0xCC, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"

_CHUNK = struct.Struct(">I4s")
_COMPRESSED_TEXT = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})
_EXIF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


class UnreadableImage(EdgeError, ValueError):
    """An image that cannot be decoded, or must not be. `path` names it, `reason` says what is wrong."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.reason)


class Header(NamedTuple):
    """`height` and `width` are those of the upright image, after its EXIF orientation (1 to 8).

    A `plain` image is a small JPEG or PNG without oddities, which is decoded in this process. `bits` are those that a
    value is stored with, 8 or 16.
    """

    format: str
    height: int
    width: int
    orientation: int = 1
    frames: int = 1
    plain: bool = False
    bits: int = 8


def look(data: bytes, path: str, limits: ImageLimits) -> Header | None:
    """The header of a JPEG or PNG as far as it is as it should be; None for what a worker has to look at."""
    if data.startswith(JPEG_MAGIC):
        return _look_at_jpeg(data, path, limits)
    if data.startswith(PNG_MAGIC):
        return _look_at_png(data, path, limits)
    if not data:
        raise UnreadableImage(path, "is empty (0 bytes)")
    return None


def check_claims(path: str, height: int, width: int, bytes_per_pixel: int, limits: ImageLimits) -> None:
    """Raise `UnreadableImage` for an image without pixels, or that would take more memory than is given to one."""
    if height < 1 or width < 1:
        raise UnreadableImage(path, f"has no pixels ({width}×{height})")
    # Grey may be asked for in colour.
    claimed = height * width * max(3, bytes_per_pixel)
    if claimed > limits.memory:
        raise UnreadableImage(
            path,
            f"claims {width}×{height} pixels, {-(-claimed >> 20):,} MiB decoded, more than the "
            f"{limits.memory >> 20} MiB of {MEMORY}; scale it down, or raise that setting",
        )


def check_frames(path: str, frames: int, limits: ImageLimits) -> None:
    """Raise `UnreadableImage` for more frames than are looked through."""
    if frames > limits.frames:
        raise UnreadableImage(
            path,
            f"has more than the {limits.frames:,} frames of {FRAMES}; keep the first one",
        )


def check_directories(path: str, number: int, limits: ImageLimits, of: str = "directories") -> None:
    """Raise `UnreadableImage` for more directories, or entries of one, than are looked through."""
    if number > limits.directories:
        raise UnreadableImage(
            path,
            f"has more than the {limits.directories:,} {of} of {DIRECTORIES}; save it anew",
        )


def upright(header: Header, orientation: int) -> Header:
    """A header of an image that is stored turned so."""
    if orientation in _SIDEWAYS:
        return header._replace(height=header.width, width=header.height, orientation=orientation)
    return header._replace(orientation=orientation)


def stored_size(header: Header) -> tuple[int, int]:
    """Height and width of an image as it is stored, not yet turned upright."""
    if header.orientation in _SIDEWAYS:
        return header.width, header.height
    return header.height, header.width


def _look_at_jpeg(data: bytes, path: str, limits: ImageLimits) -> Header | None:
    found = _parts_of_jpeg(data)
    if found is None:
        return None
    frame, scan, exif, xmp = found
    height, width, colours = struct.unpack_from(">HHB", data, frame + 5)
    check_claims(path, height, width, colours, limits)
    work = height * width
    # One scan with all colours is all that a sequential JPEG may have then.
    if data[frame + 1] == _PROGRESSIVE or data[scan + 4] != colours:
        work *= _scans(data, path, scan, limits)
    orientation = _orientation_in(exif, unclear=xmp) if exif else 1
    if orientation is None:
        return None
    is_plain = colours in (1, 3) and height * width <= PLAIN_PIXELS and work <= _PLAIN_WORK
    return upright(Header("JPEG", height, width, plain=is_plain), orientation)


def _parts_of_jpeg(data: bytes) -> tuple[int, int, bytes, bool] | None:
    """Where the frame and its first scan begin, what EXIF holds, and whether there is XMP; None where anything before
    the pixels is odd."""
    end, place = len(data), 2
    frame, exif, xmp = -1, b"", False
    for _ in range(_PLAIN_PARTS):
        if place + 4 > end or data[place] != 0xFF:
            return None
        marker, length = data[place + 1], data[place + 2] << 8 | data[place + 3]
        if marker == _SCAN:
            break
        if marker == _APPLICATION_1:
            if data.startswith(_EXIF, place + 4):
                if exif:
                    return None
                exif = data[place + 10 : place + 2 + length]
            xmp = xmp or data.startswith(_XMP, place + 4)
        elif marker in _SEQUENTIAL or marker == _PROGRESSIVE:
            if frame >= 0 or place + 10 > end or data[place + 4] != 8:
                return None
            frame = place
        elif marker not in _LENGTHY:
            return None
        place += 2 + length
    else:
        return None
    return None if frame < 0 or place + 5 > end else (frame, place, exif, xmp)


def _scans(data: bytes, path: str, place: int, limits: ImageLimits) -> int:
    """How many scans a decoder would go through from the first one at `place` on, at least."""
    most = data.count(b"\xff\xda", place)
    if most <= limits.scans:
        return most
    # What follows the image, or stands in its other parts, may look like one.
    scans, end = 0, len(data)
    for _ in range(_PLAIN_PARTS + limits.scans):
        marker = data[place + 1]
        if marker == _SCAN:
            scans += 1
            if scans > limits.scans:
                break
        elif marker not in _LENGTHY:
            return scans
        place += 2 + (data[place + 2] << 8 | data[place + 3])
        found = _AFTER_SCAN.search(data, place)
        while found and data[found.start() + 1] in _NO_LENGTH:
            found = _AFTER_SCAN.search(data, found.end())
        if found is None or found.end() + 2 > end:
            return scans
        place = found.start()
    raise UnreadableImage(path, f"has more than the {limits.scans:,} scans of {SCANS}; save it anew")


def _look_at_png(data: bytes, path: str, limits: ImageLimits) -> Header | None:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise UnreadableImage(path, "is a PNG file cut off inside its header")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    end, place = len(data), 33
    text, has_text, exif, colours = 0, False, b"", _PNG_CHANNELS.get(colour, 4)
    frames, stored, uncompressed = 1, 0, height * (8 + width * colours * depth // 8)
    bytes_a_value = 2 if depth == 16 else 1
    check_claims(path, height, width, colours * bytes_a_value, limits)
    for _ in range(_PLAIN_PARTS):
        if place + 12 > end:
            # Without its end; the decoder says so.
            break
        length, kind = _CHUNK.unpack_from(data, place)
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            stored += length
        elif kind in _COMPRESSED_TEXT:
            text, has_text = text + length, True
        elif kind == b"tEXt":
            has_text = True
        elif kind == b"tRNS":
            colours = colours + 1 if colour in (0, 2, 3) else colours
        elif kind == b"eXIf":
            if exif:
                return None
            exif = data[place + 8 : place + 8 + length]
        elif kind == b"acTL":
            frames = max(1, int.from_bytes(data[place + 8 : place + 12], "big"))
            check_frames(path, frames, limits)
        place += 12 + length
    else:
        return None
    check_claims(path, height, width, colours * bytes_a_value, limits)
    orientation = _orientation_in(exif, unclear=has_text) if exif else 1
    if orientation is None or text > _PLAIN_TEXT:
        return None
    is_plain = height * width <= PLAIN_PIXELS and stored <= min(_PLAIN_PIXEL_DATA, 2 * uncompressed + 1024)
    header = Header("PNG", height, width, frames=frames, plain=is_plain, bits=max(8, depth))
    return upright(header, orientation)


def _orientation_in(exif: bytes, unclear: bool) -> int | None:
    """The orientation of an EXIF block in which nothing is odd; None where Pillow has to be asked.

    `unclear`: where the block names none, something else of the image may.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    (place,) = struct.unpack_from(order + "I", exif, 4)
    if place + 2 > len(exif):
        return None
    (number,) = struct.unpack_from(order + "H", exif, place)
    if number > 200 or place + 2 + 12 * number + 4 > len(exif):
        return None
    for entry in range(place + 2, place + 2 + 12 * number, 12):
        tag, kind, count, offset = struct.unpack_from(order + "HHII", exif, entry)
        size = count * _EXIF_SIZES.get(kind, 0)
        if size > 4 and offset + size > len(exif):
            return None
        if tag == _ORIENTATION_TAG:
            if (kind, count) != (3, 1):
                return None
            (orientation,) = struct.unpack_from(order + "H", exif, entry + 8)
            return orientation if 1 <= orientation <= 8 else 1
    return None if unclear else 1
