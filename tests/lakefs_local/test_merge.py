"""Three-way merging, held against its definition path by path."""

import operator
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from lakefs_local.catalog import merge
from lakefs_local.storage.tree import Difference

SIDE = st.dictionaries(st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), st.sampled_from([b"1", b"2", b"3"]))


def differences(base: dict[bytes, bytes], side: dict[bytes, bytes]) -> Iterator[Difference]:
    for key in sorted(base.keys() | side.keys()):
        if base.get(key) != side.get(key):
            yield Difference(key, base.get(key), side.get(key))


@given(SIDE, SIDE, SIDE)
def test_a_path_is_taken_from_the_source_only_where_the_source_alone_changed_it(
    base: dict[bytes, bytes], source: dict[bytes, bytes], destination: dict[bytes, bytes]
) -> None:
    found = {
        change.key: change
        for change in merge.compare(differences(base, source), differences(base, destination), operator.eq)
    }
    for key in base.keys() | source.keys() | destination.keys():
        was, theirs, ours = base.get(key), source.get(key), destination.get(key)
        if was == theirs or ours == theirs:
            assert key not in found
        else:
            assert (found[key].source, found[key].destination) == (theirs, ours)
            assert found[key].conflict == (ours != was)


def test_both_sides_deleting_is_no_conflict() -> None:
    gone = [Difference(b"a", b"1", None)]
    assert list(merge.compare(gone, gone, operator.eq)) == []


def test_deleting_what_the_other_side_changed_is_a_conflict() -> None:
    deleted, changed = [Difference(b"a", b"1", None)], [Difference(b"a", b"1", b"2")]
    assert [change.conflict for change in merge.compare(deleted, changed, operator.eq)] == [True]
