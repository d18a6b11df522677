"""Images that come as arrays, as PNG files whose bytes depend on the pixels alone."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STORED = 65_535


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W, 1 or 3) as PNG.

    Uncompressed: a compressor's output changes with its version, and with it the image's identity. It also
    decodes faster, and small images gain little from compression.
    """
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    blocks = [raw[start : start + _STORED] for start in range(0, len(raw), _STORED)]
    deflated = b"".join(
        struct.pack("<BHH", number == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for number, block in enumerate(blocks)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    content = b"\x78\x01" + deflated + struct.pack(">I", zlib.adler32(raw))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")


@dataclass(frozen=True, slots=True)
class NumberedImages:
    """Makes the image of a name `<part>/<number>.png` when called, of parts uint8 (N, H, W, 1 or 3)."""

    parts: Mapping[str, NDArray[np.uint8]]

    def __call__(self, name: str) -> bytes:
        part, _, number = name.removesuffix(".png").rpartition("/")
        return png_of(self.parts[part][int(number)])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
