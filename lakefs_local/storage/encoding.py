"""The stored forms: records, the bytes that describe one object in a tree or in staging, and nodes, the small
immutable pieces that committed trees are made of, named by their SHA-256.

A record is `identity + tail`. The identity (size, checksum, content type, user metadata) says whether two records
are the same object to a diff. A node holds sorted keys, each with a value: in a leaf (level 0) a record.
"""

import hashlib
import json
import sqlite3
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from os.path import commonprefix
from struct import Struct, unpack_from
from typing import NamedTuple

DEFAULT_CONTENT_TYPE = "application/octet-stream"

_RECORD_HEAD = Struct("<BQ")
_MD5, _TYPED, _METADATA = 1, 2, 4
_SHORT = Struct("<H")
_LONG = Struct("<I")
_TAIL = Struct("<QH")
_DIGEST_SIZE = 32
# An address length that no path reaches says that the address is the SHA-256 of a blob in this data folder.
_IS_BLOB = 0xFFFF
_NODE_HEAD = Struct("<BHHI")
CACHED_NODES = 8192


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


def pack_entry(entry: Entry) -> bytes:
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
    return b"".join((_RECORD_HEAD.pack(flags, entry.size), *parts, address, _TAIL.pack(entry.mtime, length)))


def unpack_record(record: bytes) -> Entry:
    """Decode what `pack` wrote."""
    flags, size = _RECORD_HEAD.unpack_from(record)
    at = _RECORD_HEAD.size
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


def identity_of(record: bytes) -> bytes:
    """The part of a record that a diff compares: size, checksum, content type and user metadata."""
    length = _SHORT.unpack_from(record, len(record) - 2)[0]
    return record[: -_TAIL.size - (_DIGEST_SIZE if length == _IS_BLOB else length)]


def same_object(left: bytes | None, right: bytes | None) -> bool:
    """Whether two records (None: no object) are the same object to a diff."""
    if left == right:
        return True
    return left is not None and right is not None and identity_of(left) == identity_of(right)


def size_of(record: bytes) -> int:
    """The object's size in bytes."""
    size: int = _RECORD_HEAD.unpack_from(record)[1]
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


class Node(NamedTuple):
    """`level` 0 is a leaf; `keys` and `values` run in parallel, sorted by key."""

    level: int
    keys: list[bytes]
    values: list[bytes]


def encode_node(level: int, keys: list[bytes], values: list[bytes]) -> bytes:
    """The stored form of a node. Keys are at most 65,535 bytes."""
    prefix = (commonprefix((keys[0], keys[-1])) or b"") if keys else b""  # noqa: RUF071 (bytes, no paths)
    start = len(prefix)
    tails = [key[start:] for key in keys] if start else keys
    count = len(keys)
    lengths = Struct(f"<{count}H{count}I").pack(*map(len, tails), *map(len, values))
    return b"".join([_NODE_HEAD.pack(level, 1, start, count), lengths, prefix, *tails, *values])


def decode_node(data: bytes) -> Node:
    """Read what `encode` wrote."""
    level, _format, start, count = _NODE_HEAD.unpack_from(data)
    lengths = unpack_from(f"<{count}H{count}I", data, _NODE_HEAD.size)
    at = _NODE_HEAD.size + 6 * count
    prefix = data[at : at + start]
    ends = list(accumulate(lengths, initial=at + start))
    pieces = [data[a:b] for a, b in pairwise(ends)]
    keys = pieces[:count]
    if prefix:
        keys = [prefix + key for key in keys]
    return Node(level, keys, pieces[count:])


def digest_of_node(data: bytes) -> bytes:
    """A node's id."""
    return hashlib.sha256(data).digest()


class NodeCache:
    """Decoded nodes by id, the least recently used dropped first. Safe between threads: entries never change."""

    def __init__(self, limit: int = CACHED_NODES):
        self._limit = limit
        self._nodes: dict[bytes, Node] = {}

    def get(self, node_id: bytes) -> Node | None:
        node = self._nodes.pop(node_id, None)
        if node is not None:
            self._nodes[node_id] = node
        return node

    def put(self, node_id: bytes, node: Node) -> None:
        self._nodes[node_id] = node
        while len(self._nodes) > self._limit:
            try:
                self._nodes.pop(next(iter(self._nodes)), None)
            except (StopIteration, RuntimeError):
                # Another thread changed the dict between looking and popping; its turn makes room as well.
                break


class MissingNode(LookupError):
    """A tree names a node that is not stored: the database is damaged, `fsck` says where."""


class Nodes:
    """Reads and writes nodes on one database connection."""

    def __init__(self, connection: sqlite3.Connection, cache: NodeCache):
        self._connection, self._cache = connection, cache

    def get(self, node_id: bytes) -> Node:
        """Raises MissingNode."""
        node = self._cache.get(node_id)
        if node is None:
            row = self._connection.execute("SELECT data FROM nodes WHERE id = ?", (node_id,)).fetchone()
            if row is None:
                raise MissingNode(f"node {node_id.hex()} is not in the database; run `lakefs_local fsck`")
            node = decode_node(row[0])
            self._cache.put(node_id, node)
        return node

    def put(self, level: int, keys: list[bytes], values: list[bytes]) -> bytes:
        """Store a node (storing it again is harmless) and return its id."""
        data = encode_node(level, keys, values)
        node_id = digest_of_node(data)
        self._store(node_id, data)
        self._cache.put(node_id, Node(level, keys, values))
        return node_id

    def _store(self, node_id: bytes, data: bytes) -> None:
        store_nodes(self._connection, [(node_id, data)])


def store_nodes(connection: sqlite3.Connection, nodes: list[tuple[bytes, bytes]]) -> None:
    """Store encoded nodes by id; those that are stored already stay as they are."""
    connection.executemany("INSERT OR IGNORE INTO nodes (id, data) VALUES (?, ?)", nodes)
