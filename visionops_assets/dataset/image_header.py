"""What an image says of itself before any pixel is decoded."""

import io
import struct
from typing import NamedTuple

import simplejpeg
from PIL import Image, UnidentifiedImageError

# Pillow's own bound, a quarter of a GiB of RGB: beyond it an attack is likelier than a photograph.
MAX_PIXELS = 89_478_485

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
JPEG_MAGIC = b"\xff\xd8\xff"

# Formats that Pillow reads without calling other programs (EPS would start Ghostscript).
PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")

# What Pillow raises on broken bytes, depending on the format.
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})


class UnreadableImage(ValueError):
    """An image that cannot be decoded, or must not be. `path` names it, `reason` says what is wrong."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.reason)


class Header(NamedTuple):
    """`height` and `width` are those of the upright image, after its EXIF orientation (1 to 8)."""

    format: str
    height: int
    width: int
    orientation: int = 1
    frames: int = 1


def probe(data: bytes, path: str, max_pixels: int = MAX_PIXELS) -> Header:
    """Read format, upright size, orientation and number of frames from the header alone.

    The format is told by the bytes, never by the file name. Raises `UnreadableImage` when the bytes are
    no image or claim more than `max_pixels` pixels: a few bytes can ask for gigabytes of memory.
    """
    if not data:
        raise UnreadableImage(path, "is empty (0 bytes)")
    if data.startswith(PNG_MAGIC):
        header = _probe_png(data, path)
    elif data.startswith(JPEG_MAGIC):
        header = _probe_jpeg(data, path)
    else:
        header = _probe_with_pillow(data, path)
    if header.height < 1 or header.width < 1:
        raise UnreadableImage(path, f"has no pixels ({header.width}×{header.height})")
    if header.height * header.width > max_pixels:
        raise UnreadableImage(
            path,
            f"claims {header.width}×{header.height} pixels, more than the {max_pixels:,} that are decoded; "
            "scale it down, or leave it out",
        )
    if _may_be_turned(header, data):
        return _upright(header._replace(orientation=_exif_orientation(data)))
    return header


def _probe_png(data: bytes, path: str) -> Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise UnreadableImage(path, "is a PNG file cut off inside its header")
    width, height = struct.unpack(">II", data[16:24])
    return Header("PNG", height, width)


def _probe_jpeg(data: bytes, path: str) -> Header:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise UnreadableImage(path, f"has a broken JPEG header: {error}") from error
    return Header("JPEG", height, width)


def _probe_with_pillow(data: bytes, path: str) -> Header:
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            return Header(image.format or "?", image.height, image.width, 1, getattr(image, "n_frames", 1))
    except UnidentifiedImageError as error:
        known = ", ".join(PILLOW_FORMATS)
        raise UnreadableImage(
            path, f"is not an image ({known} are read); starts with {data[:8]!r}"
        ) from error
    except PILLOW_ERRORS as error:
        raise UnreadableImage(path, f"has a broken header: {error}") from error


def _may_be_turned(header: Header, data: bytes) -> bool:
    if header.format == "JPEG":
        return data.find(b"Exif\0\0", 0, 1 << 17) >= 0
    if header.format == "PNG":
        return b"eXIf" in data
    # Pillow itself turns a TIFF upright.
    return header.format != "TIFF"


def _exif_orientation(data: bytes) -> int:
    """The orientation tag, or 1 where the EXIF block says nothing that can be used."""
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except PILLOW_ERRORS:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(header: Header) -> Header:
    if header.orientation in _SIDEWAYS:
        return header._replace(height=header.width, width=header.height)
    return header
