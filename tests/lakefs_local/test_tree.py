"""Trees: sorted maps whose shape follows from their content alone."""

import operator
import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from lakefs_local.storage import tree
from lakefs_local.storage.encoding import NodeCache, Nodes, decode_node, encode_node

# Few distinct keys, so that edits meet what is there; numbers enough for several levels.
KEYS = st.integers(0, 4000).map(lambda number: b"path/%05d" % number)
CONTENT = st.dictionaries(KEYS, st.binary(max_size=4), max_size=400)
EDITS = st.dictionaries(KEYS, st.none() | st.binary(max_size=4), max_size=60)


def new_nodes() -> Nodes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE nodes (id BLOB NOT NULL UNIQUE, data BLOB NOT NULL)")
    return Nodes(connection, NodeCache())


def build(nodes: Nodes, content: dict[bytes, bytes]) -> bytes:
    return tree.apply(nodes, None, sorted(content.items()), operator.eq).root


def large(count: int) -> dict[bytes, bytes]:
    return {b"data/%07d" % number: b"%d" % number for number in range(count)}


def edited(content: dict[bytes, bytes], edits: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    merged: dict[bytes, bytes | None] = {**content, **edits}
    return {key: value for key, value in merged.items() if value is not None}


@given(CONTENT)
def test_a_tree_gives_back_what_was_put_in(content: dict[bytes, bytes]) -> None:
    nodes = new_nodes()
    root = build(nodes, content)
    assert list(tree.scan(nodes, root)) == sorted(content.items())
    for key in [*content, b"path/absent"]:
        assert tree.get(nodes, root, key) == content.get(key)


@given(CONTENT, EDITS)
def test_edits_lead_to_the_tree_that_a_fresh_build_gives(
    content: dict[bytes, bytes], edits: dict[bytes, bytes | None]
) -> None:
    nodes = new_nodes()
    applied = tree.apply(nodes, build(nodes, content), sorted(edits.items()), operator.eq)
    expected = edited(content, edits)
    assert applied.root == build(nodes, expected)
    assert applied.changed == sum(content.get(key) != expected.get(key) for key in edits)


@given(CONTENT, CONTENT, KEYS)
def test_a_difference_names_every_differing_path_from_its_start_on(
    left: dict[bytes, bytes], right: dict[bytes, bytes], start: bytes
) -> None:
    nodes = new_nodes()
    found = list(tree.diff(nodes, build(nodes, left), build(nodes, right), start))
    keys = sorted(
        key for key in left.keys() | right.keys() if left.get(key) != right.get(key) and key >= start
    )
    assert [difference.key for difference in found] == keys
    assert all((d.left, d.right) == (left.get(d.key), right.get(d.key)) for d in found)


@given(CONTENT, KEYS)
def test_a_scan_starts_where_it_is_told(content: dict[bytes, bytes], start: bytes) -> None:
    nodes = new_nodes()
    root = build(nodes, content)
    assert [key for key, _ in tree.scan(nodes, root, start)] == sorted(key for key in content if key >= start)
    after = [key for key, _ in tree.scan(nodes, root, start, after=True)]
    assert after == sorted(key for key in content if key > start)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=80)), max_size=70))
def test_a_node_is_read_as_it_was_written(entries: list[tuple[bytes, bytes]]) -> None:
    content = sorted(dict(entries).items())
    keys, values = [key for key, _ in content], [value for _, value in content]
    node = decode_node(encode_node(3, keys, values))
    assert (node.level, node.keys, node.values) == (3, keys, values)


class CountingNodes(Nodes):
    """Counts how many nodes are opened and stored."""

    opened = stored = 0

    def get(self, node_id: bytes):  # type: ignore[no-untyped-def]
        self.opened += 1
        return super().get(node_id)

    def _store(self, node_id: bytes, data: bytes) -> None:
        self.stored += 1
        super()._store(node_id, data)


def test_one_change_in_a_large_tree_stores_a_handful_of_nodes() -> None:
    plain = new_nodes()
    nodes = CountingNodes(plain._connection, NodeCache())
    root = build(nodes, large(50_000))
    nodes.opened = nodes.stored = 0
    changed = tree.apply(nodes, root, [(b"data/0025000", b"other")], operator.eq)
    # The path to the changed leaf and the right edge of the tree.
    assert nodes.stored <= 10
    nodes.opened = 0
    assert [difference.key for difference in tree.diff(nodes, root, changed.root)] == [b"data/0025000"]
    assert nodes.opened <= 16


def test_a_long_history_of_small_edits_does_not_grow_the_tree() -> None:
    nodes = CountingNodes(new_nodes()._connection, NodeCache())
    content = large(5_000)
    root = build(nodes, content)
    for number in range(300):
        key = b"data/%07d" % (number * 37 % 5_000)
        content[key] = b"edit %d" % number
        root = tree.apply(nodes, root, [(key, content[key])], operator.eq).root
    nodes.opened = 0
    assert tree.get(nodes, root, b"data/0000111") == content[b"data/0000111"]
    assert nodes.opened <= 5
    assert root == build(nodes, content)


def test_an_emptied_tree_is_a_tree() -> None:
    nodes = new_nodes()
    root = build(nodes, large(100))
    emptied = tree.apply(nodes, root, [(key, None) for key in sorted(large(100))], operator.eq).root
    assert emptied == build(nodes, {})
    assert list(tree.scan(nodes, emptied)) == []
    assert len(list(tree.diff(nodes, emptied, root))) == 100
