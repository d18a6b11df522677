"""Columns of hex digits and the bytes that they stand for."""

import binascii

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_AT_ONCE = 4096


def hex_texts(raw: NDArray[np.uint8]) -> pa.Array:
    """uint8 (N, B) as text of 2·B hex digits each."""
    rows, width = raw.shape
    ends = np.arange(0, 2 * width * rows + 1, 2 * width, dtype=np.int32)
    content = binascii.hexlify(np.ascontiguousarray(raw).data) if rows else b""
    return pa.StringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(content))


def bytes_of_hex(texts: pa.Array | pa.ChunkedArray, width: int) -> NDArray[np.uint8]:
    """Texts of 2·B hex digits as uint8 (N, B); `width` is B."""
    raw = np.empty((len(texts), width), np.uint8)
    for start in range(0, len(texts), _AT_ONCE):
        some = "".join(texts[start : start + _AT_ONCE].to_pylist())
        raw[start : start + _AT_ONCE] = np.frombuffer(bytes.fromhex(some), np.uint8).reshape(-1, width)
    return raw
