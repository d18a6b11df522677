"""The bytes that describe one object in a tree or in staging.

A record is `identity + tail`. The identity (size, checksum, content type, user metadata) says whether two
objects are the same to a diff or a merge; the tail (modification time, address) says where the bytes lie.
Identity comes first so that comparing two records is one comparison of bytes.
"""

import json
from dataclasses import dataclass, field
from struct import Struct

DEFAULT_CONTENT_TYPE = "application/octet-stream"

_HEAD = Struct("<BQ")
_MD5, _TYPED, _METADATA = 1, 2, 4
_SHORT = Struct("<H")
_LONG = Struct("<I")
_TAIL = Struct("<QH")
_DIGEST_SIZE = 32
# An address length that no path reaches says that the address is the SHA-256 of a blob in this data folder.
_IS_BLOB = 0xFFFF


@dataclass(slots=True)
class Entry:
    """One object: `blob` is the SHA-256 (32 bytes) of its content here, else `location` is a file path."""

    checksum: str
    size: int
    mtime: int
    blob: bytes | None = None
    location: str = ""
    content_type: str = DEFAULT_CONTENT_TYPE
    metadata: dict[str, str] = field(default_factory=dict)


def pack(entry: Entry) -> bytes:
    """Encode an entry. Raises ValueError if its location is longer than 65,534 bytes."""
    flags = 0
    checksum = entry.checksum.encode()
    if len(checksum) == 32 and _is_lower_hex(entry.checksum):
        flags |= _MD5
        checksum = bytes.fromhex(entry.checksum)
    else:
        checksum = _SHORT.pack(len(checksum)) + checksum
    parts = [checksum]
    if entry.content_type != DEFAULT_CONTENT_TYPE:
        flags |= _TYPED
        content_type = entry.content_type.encode()
        parts += [_SHORT.pack(len(content_type)), content_type]
    if entry.metadata:
        flags |= _METADATA
        metadata = json.dumps(
            entry.metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
        parts += [_LONG.pack(len(metadata)), metadata]
    if entry.blob is not None:
        address, length = entry.blob, _IS_BLOB
    else:
        address = entry.location.encode()
        length = len(address)
        if length >= _IS_BLOB:
            raise ValueError(f"a location of {length} bytes is too long to store")
    return b"".join((_HEAD.pack(flags, entry.size), *parts, address, _TAIL.pack(entry.mtime, length)))


def unpack(record: bytes) -> Entry:
    """Decode what `pack` wrote."""
    flags, size = _HEAD.unpack_from(record)
    at = _HEAD.size
    if flags & _MD5:
        checksum = record[at : at + 16].hex()
        at += 16
    else:
        (length,) = _SHORT.unpack_from(record, at)
        checksum = record[at + 2 : at + 2 + length].decode()
        at += 2 + length
    content_type = DEFAULT_CONTENT_TYPE
    if flags & _TYPED:
        (length,) = _SHORT.unpack_from(record, at)
        content_type = record[at + 2 : at + 2 + length].decode()
        at += 2 + length
    metadata: dict[str, str] = {}
    if flags & _METADATA:
        (length,) = _LONG.unpack_from(record, at)
        metadata = json.loads(record[at + 4 : at + 4 + length])
    blob, location, mtime = _address(record)
    return Entry(checksum, size, mtime, blob, location, content_type, metadata)


def identity(record: bytes) -> bytes:
    """The part of a record that a diff compares: size, checksum, content type and user metadata."""
    length = _SHORT.unpack_from(record, len(record) - 2)[0]
    return record[: -_TAIL.size - (_DIGEST_SIZE if length == _IS_BLOB else length)]


def same(left: bytes | None, right: bytes | None) -> bool:
    """Whether two records (None: no object) are the same object to a diff."""
    if left == right:
        return True
    return left is not None and right is not None and identity(left) == identity(right)


def size_of(record: bytes) -> int:
    """The object's size in bytes."""
    size: int = _HEAD.unpack_from(record)[1]
    return size


def blob_of(record: bytes) -> bytes | None:
    """The SHA-256 of the blob a record needs, or None for one whose bytes lie elsewhere."""
    return _address(record)[0]


def _address(record: bytes) -> tuple[bytes | None, str, int]:
    end = len(record) - _TAIL.size
    mtime, length = _TAIL.unpack_from(record, end)
    if length == _IS_BLOB:
        return record[end - _DIGEST_SIZE : end], "", mtime
    return None, record[end - length : end].decode(), mtime


def _is_lower_hex(text: str) -> bool:
    return not text.strip("0123456789abcdef")
