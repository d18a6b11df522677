"""Trees: sorted maps from path to record, made of nodes that versions share.

Where a node ends is decided by the keys alone: a key whose hash ends in `5 * n` zero bits closes the nodes of the
`n` lowest levels. So a node holds 32 entries on average, the same content is always the same tree whatever the
order of the edits that led to it, a change rewrites only the path from its leaf to the root, and comparing two
trees skips whatever they share. There is nothing to compact. (The idea is that of prolly trees and of Merkle
search trees: Auvolat and Taïani, "Merkle Search Trees", SRDS 2019.)
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from lakefs_local.storage.encoding import Nodes

_BITS = 5
_MASK = (1 << _BITS) - 1

Change = tuple[bytes, bytes | None]
"""A path and its new record; None deletes it."""


Run = list[tuple[bytes, bytes]]
"""Neighbouring nodes as (last key, id)."""


class Difference(NamedTuple):
    """One path on which two trees differ; None: not there."""

    key: bytes
    left: bytes | None
    right: bytes | None


def height(key: bytes) -> int:
    """How many levels of nodes end after this key."""
    bits = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
    levels = 0
    while not bits & _MASK and levels < 12:
        levels += 1
        bits >>= _BITS
    return levels


def get(nodes: Nodes, root: bytes | None, key: bytes) -> bytes | None:
    """The record stored under `key`, or None."""
    while root is not None:
        level, keys, values = nodes.get(root)
        at = bisect_left(keys, key)
        if at == len(keys):
            return None
        if level == 0:
            return values[at] if keys[at] == key else None
        root = values[at]
    return None


def scan(
    nodes: Nodes, root: bytes | None, start: bytes = b"", *, after: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """Entries in order of path, from `start` on (`after`: not `start` itself)."""
    if root is None:
        return
    level, keys, values = nodes.get(root)
    if level == 0:
        at = bisect_right(keys, start) if after else bisect_left(keys, start)
        yield from zip(keys[at:], values[at:], strict=True)
        return
    first = bisect_left(keys, start)
    for child in values[first:]:
        yield from scan(nodes, child, start, after=after)
        start, after = b"", False


def diff(nodes: Nodes, left: bytes | None, right: bytes | None, start: bytes = b"") -> Iterator[Difference]:
    """Paths from `start` on whose records differ in any byte, in order; subtrees that both share are skipped."""
    if left == right:
        return
    levels = [nodes.get(root).level for root in (left, right) if root is not None]
    top = max(levels, default=0)
    yield from _diff_level(nodes, top, _lift(nodes, left), _lift(nodes, right), start)


def _lift(nodes: Nodes, root: bytes | None) -> Run:
    if root is None:
        return []
    keys = nodes.get(root).keys
    return [(keys[-1], root)] if keys else []


def _diff_level(nodes: Nodes, level: int, left: Run, right: Run, start: bytes) -> Iterator[Difference]:
    """Compare two runs of nodes of at most `level`, stretch by stretch between the keys where both end."""
    i = j = 0
    while i < len(left) or j < len(right):
        i0, j0 = i, j
        i, j = _stretch(left, right, i, j)
        a, b = left[i0:i], right[j0:j]
        last = max(a[-1][0] if a else b"", b[-1][0] if b else b"")
        if last < start or a == b:
            continue
        if level == 0:
            yield from _diff_entries(_entries(nodes, a, start), _entries(nodes, b, start))
        else:
            yield from _diff_level(
                nodes, level - 1, _open(nodes, a, level, start), _open(nodes, b, level, start), start
            )


def _stretch(left: Run, right: Run, i: int, j: int) -> tuple[int, int]:
    """Where the shortest stretch from (i, j) ends such that no node of one side reaches past it."""
    i0, j0 = i, j
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right) and left[i][0] == right[j][0]:
            return i + 1, j + 1
        if j == len(right) or (i < len(left) and left[i][0] < right[j][0]):
            i += 1
            if j == len(right) and (j == j0 or left[i - 1][0] >= right[j - 1][0]):
                break
        else:
            j += 1
            if i == len(left) and (i == i0 or right[j - 1][0] >= left[i - 1][0]):
                break
    return i, j


def _open(nodes: Nodes, run: Run, level: int, start: bytes) -> Run:
    children: Run = []
    for last, node_id in run:
        node = nodes.get(node_id)
        if node.level < level:
            children.append((last, node_id))
            continue
        at = bisect_left(node.keys, start)
        children += zip(node.keys[at:], node.values[at:], strict=True)
    return children


def _entries(nodes: Nodes, run: Run, start: bytes) -> dict[bytes, bytes]:
    entries: dict[bytes, bytes] = {}
    for _, node_id in run:
        node = nodes.get(node_id)
        at = bisect_left(node.keys, start)
        entries.update(zip(node.keys[at:], node.values[at:], strict=True))
    return entries


def _diff_entries(left: dict[bytes, bytes], right: dict[bytes, bytes]) -> Iterator[Difference]:
    changed = {key for key, _ in left.items() ^ right.items()}
    for key in sorted(changed):
        yield Difference(key, left.get(key), right.get(key))


class Builder:
    """Makes a tree from entries and whole subtrees given in order of key."""

    def __init__(self, nodes: Nodes):
        self._nodes = nodes
        self._keys: list[list[bytes]] = [[]]
        self._values: list[list[bytes]] = [[]]

    def add(self, key: bytes, value: bytes) -> None:
        """Append one entry."""
        self._append(0, key, value, height(key))

    def add_inner(self, keys: list[bytes], values: list[bytes]) -> None:
        """Append entries of which none closes a node."""
        self._keys[0] += keys
        self._values[0] += values

    def aligned(self, level: int) -> bool:
        """Whether a finished node of `level` can be appended: nothing is open at or below that level."""
        return not any(self._keys[: level + 1])

    def add_node(self, level: int, last: bytes, node_id: bytes) -> None:
        """Append a finished node of `level` that ends with key `last`; the builder must be aligned."""
        self._append(level + 1, last, node_id, height(last))

    def finish(self) -> bytes:
        """Store what is open and return the root; of no entries, the empty leaf."""
        if not any(self._keys):
            return self._nodes.put(0, [], [])
        level = 0
        while True:
            higher = any(self._keys[level + 1 :])
            keys, values = self._keys[level], self._values[level]
            if level > 0 and not higher and len(keys) == 1:
                return values[0]
            if keys:
                self._close(level)
            level += 1

    def _append(self, level: int, key: bytes, value: bytes, ends: int) -> None:
        while len(self._keys) <= level:
            self._keys.append([])
            self._values.append([])
        self._keys[level].append(key)
        self._values[level].append(value)
        if ends > level:
            self._close(level, ends)

    def _close(self, level: int, ends: int = 0) -> None:
        keys, values = self._keys[level], self._values[level]
        self._keys[level], self._values[level] = [], []
        self._append(level + 1, keys[-1], self._nodes.put(level, keys, values), ends)


class Applied(NamedTuple):
    """A new root and how many paths really changed."""

    root: bytes
    changed: int


def apply(
    nodes: Nodes, root: bytes | None, changes: Iterable[Change], same: Callable[[bytes, bytes], bool]
) -> Applied:
    """The tree after `changes` (sorted by path, each path once).

    A new record that is `same` as the old one leaves the old one in place and does not count, nor does deleting
    what is not there.
    """
    return _Application(nodes, changes, same).run(root)


class _Application:
    def __init__(self, nodes: Nodes, changes: Iterable[Change], same: Callable[[bytes, bytes], bool]):
        self._nodes, self._same = nodes, same
        self._builder = Builder(nodes)
        self._changes = iter(changes)
        self._next = next(self._changes, None)
        self._changed = 0

    def run(self, root: bytes | None) -> Applied:
        if root is not None:
            level = self._nodes.get(root).level
            self._walk(root, level, None)
        while self._next is not None:
            self._insert()
        return Applied(self._builder.finish(), self._changed)

    def _walk(self, node_id: bytes, level: int, last: bytes | None) -> None:
        """Copy one node with its changes; `last` is None on the right edge, whose nodes no key has closed."""
        untouched = last is not None and (self._next is None or self._next[0] > last)
        if untouched and last is not None and self._builder.aligned(level):
            self._builder.add_node(level, last, node_id)
            return
        _, keys, values = self._nodes.get(node_id)
        if level == 0:
            self._walk_leaf(keys, values, last)
            return
        for at, (key, child) in enumerate(zip(keys, values, strict=True)):
            edge = last is None and at == len(keys) - 1
            self._walk(child, level - 1, None if edge else key)

    def _walk_leaf(self, keys: list[bytes], values: list[bytes], last: bytes | None) -> None:
        at, end = 0, len(keys)
        while self._next is not None and end and self._next[0] <= keys[-1]:
            key, value = self._next
            upto = bisect_left(keys, key, at)
            self._copy(keys, values, at, upto)
            at = upto
            if keys[at] != key:
                self._insert()
                continue
            self._next = next(self._changes, None)
            old = values[at]
            at += 1
            if value is not None and self._same(old, value):
                value = old
            else:
                self._changed += 1
            if value is not None:
                self._put_old_key(key, value, at == end)
        self._copy(keys, values, at, end)

    def _copy(self, keys: list[bytes], values: list[bytes], start: int, end: int) -> None:
        """Copy old entries; within a leaf only its last key can close a node."""
        if start == end:
            return
        if end == len(keys):
            self._builder.add_inner(keys[start : end - 1], values[start : end - 1])
            self._builder.add(keys[-1], values[-1])
        else:
            self._builder.add_inner(keys[start:end], values[start:end])

    def _put_old_key(self, key: bytes, value: bytes, is_last: bool) -> None:
        if is_last:
            self._builder.add(key, value)
        else:
            self._builder.add_inner([key], [value])

    def _insert(self) -> None:
        assert self._next is not None
        key, value = self._next
        self._next = next(self._changes, None)
        if value is not None:
            self._builder.add(key, value)
            self._changed += 1
