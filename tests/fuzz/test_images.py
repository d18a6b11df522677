"""Altered images of every format are read, or refused by name, within memory and time; no process dies but workers."""

import io
import random
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mutation import all_hold, bounded_memory, many, mutated
from PIL import Image

from edge.images.bounds import ImageLimits
from edge.images.decode import Target, decode_with_header
from edge.images.decode_pool import probe
from edge.images.header import PNG_MAGIC, UnreadableImage

pytestmark = pytest.mark.timeout(2700)
LIMITS = ImageLimits().within(2)
WORDS = (
    b"\xff\xda", b"\xff\xc2", b"\xff\xd9", b"\xff\xe1\x00\x08Exif\0\0", b"IHDR", b"IDAT", b"zTXt", b"eXIf", b"acTL",
    b"\x21\xff", b"\x2c", b"ANMF", b"VP8X", b"VP8L", b"II*\0", b"MM\0*", b"\x11\x01\x04\x00", b"\0\0\0\0",
)  # fmt: skip


def encoded(mode: str, kind: str, side: int = 40, **options: object) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    image = (
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else image.convert(mode)
    )
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def frames(kind: str) -> bytes:
    several = [Image.new("RGB", (20, 20), (number * 40, 0, 0)) for number in range(4)]
    buffer = io.BytesIO()
    several[0].save(buffer, kind, save_all=True, append_images=several[1:])
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
SEEDS = {
    "jpeg": [encoded("RGB", "JPEG"), encoded("L", "JPEG", exif=EXIF), encoded("CMYK", "JPEG")],
    "progressive": [encoded("RGB", "JPEG", progressive=True)],
    "png": [encoded("RGB", "PNG"), encoded("RGBA", "PNG", exif=EXIF), encoded("1", "PNG")],
    "palette": [encoded("P", "PNG", transparency=0)],
    "png16": [encoded("I;16", "PNG")],
    "gif": [encoded("P", "GIF"), frames("GIF")],
    "bmp": [encoded("RGB", "BMP"), encoded("P", "BMP")],
    "webp": [encoded("RGB", "WEBP"), encoded("RGBA", "WEBP", exif=EXIF), frames("WEBP")],
    "lossless": [encoded("RGBA", "WEBP", lossless=True)],
    "tiff": [encoded("RGB", "TIFF"), encoded("I;16", "TIFF"), frames("TIFF")],
    "compressed tiff": [
        encoded("RGB", "TIFF", compression=each) for each in ("tiff_lzw", "tiff_deflate", "jpeg")
    ],
    "avif": [encoded("RGB", "AVIF"), encoded("RGBA", "AVIF", exif=EXIF), frames("AVIF")],
    "jpeg 2000": [encoded("RGB", "JPEG2000"), encoded("L", "JPEG2000"), encoded("I;16", "JPEG2000")],
    "ppm": [encoded("RGB", "PPM"), encoded("L", "PPM"), encoded("1", "PPM")],
}


def with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them."""
    found, place = bytearray(data), 8
    while place + 12 <= len(found):
        end = place + 8 + int.from_bytes(found[place : place + 4], "big")
        if end + 4 > len(found):
            break
        found[end : end + 4] = zlib.crc32(found[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(found)


def read_or_refused(data: bytes) -> None:
    for attempt in (
        lambda: probe(data, "an image", LIMITS),
        lambda: decode_with_header(data, "an image", None, 3, LIMITS),
        lambda: decode_with_header(data, "an image", Target(16, 16, "fit"), 1, LIMITS),
    ):
        try:
            attempt()
        except UnreadableImage as refused:
            assert refused.path == "an image"
            assert refused.reason and refused.reason.isprintable() and len(refused.reason) < 400


@pytest.mark.parametrize("kind", SEEDS)
def test_altered_images_are_read_or_refused(kind: str, count: Callable[[int, int], int]):
    # Inputs for two threads, as import has.
    seeds = SEEDS[kind]

    def within(generator: random.Random) -> bytes:
        return with_right_sums(mutated(generator, seeds, WORDS))

    summed = within if seeds[0].startswith(PNG_MAGIC) else None
    halves = [many(seed, count(20, 4200), seeds, WORDS, summed) for seed in (1, 2)]
    with bounded_memory(1 << 30), ThreadPoolExecutor(2) as threads:
        seen = list(threads.map(lambda half: all_hold(kind, half, read_or_refused), halves))
    assert sum(seen) >= 40
