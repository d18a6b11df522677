"""Nodes: the small immutable pieces that committed trees are made of, named by their SHA-256.

A node holds sorted keys, each with a value: in a leaf (level 0) a record, above that the id of a child, whose key
is the last key below it. What the keys have in common at their start is stored once.
"""

import hashlib
import sqlite3
from itertools import accumulate, pairwise
from os.path import commonprefix
from struct import Struct, unpack_from
from typing import NamedTuple

_HEAD = Struct("<BHHI")
CACHED_NODES = 8192


class Node(NamedTuple):
    """`level` 0 is a leaf; `keys` and `values` run in parallel, sorted by key."""

    level: int
    keys: list[bytes]
    values: list[bytes]


def encode(level: int, keys: list[bytes], values: list[bytes]) -> bytes:
    """The stored form of a node. Keys are at most 65,535 bytes."""
    prefix = (commonprefix((keys[0], keys[-1])) or b"") if keys else b""  # noqa: RUF071 (bytes, no paths)
    start = len(prefix)
    tails = [key[start:] for key in keys] if start else keys
    count = len(keys)
    lengths = Struct(f"<{count}H{count}I").pack(*map(len, tails), *map(len, values))
    return b"".join([_HEAD.pack(level, 1, start, count), lengths, prefix, *tails, *values])


def decode(data: bytes) -> Node:
    """Read what `encode` wrote."""
    level, _format, start, count = _HEAD.unpack_from(data)
    lengths = unpack_from(f"<{count}H{count}I", data, _HEAD.size)
    at = _HEAD.size + 6 * count
    prefix = data[at : at + start]
    ends = list(accumulate(lengths, initial=at + start))
    pieces = [data[a:b] for a, b in pairwise(ends)]
    keys = pieces[:count]
    if prefix:
        keys = [prefix + key for key in keys]
    return Node(level, keys, pieces[count:])


def digest(data: bytes) -> bytes:
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
            node = decode(row[0])
            self._cache.put(node_id, node)
        return node

    def put(self, level: int, keys: list[bytes], values: list[bytes]) -> bytes:
        """Store a node (storing it again is harmless) and return its id."""
        data = encode(level, keys, values)
        node_id = digest(data)
        self._store(node_id, data)
        self._cache.put(node_id, Node(level, keys, values))
        return node_id

    def _store(self, node_id: bytes, data: bytes) -> None:
        store_nodes(self._connection, [(node_id, data)])


def store_nodes(connection: sqlite3.Connection, nodes: list[tuple[bytes, bytes]]) -> None:
    """Store encoded nodes by id; those that are stored already stay as they are."""
    connection.executemany("INSERT OR IGNORE INTO nodes (id, data) VALUES (?, ?)", nodes)
