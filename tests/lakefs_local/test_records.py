"""Records: what is stored about an object, and what makes two objects the same."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lakefs_local.storage import encoding
from lakefs_local.storage.encoding import Entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ENTRIES = st.builds(
    Entry,
    checksum=st.one_of(TEXT, st.binary(min_size=16, max_size=16).map(bytes.hex)),
    size=st.integers(0, 2**63),
    mtime=st.integers(0, 2**40),
    blob=st.none() | st.binary(min_size=32, max_size=32),
    location=st.just(""),
    content_type=TEXT | st.just("application/octet-stream"),
    metadata=st.dictionaries(TEXT, TEXT, max_size=3),
)


@given(ENTRIES, TEXT)
def test_a_record_is_read_as_it_was_written(entry: Entry, location: str) -> None:
    if entry.blob is None:
        entry = replace(entry, location=location)
    assert encoding.unpack_record(encoding.pack_entry(entry)) == entry
    assert encoding.size_of(encoding.pack_entry(entry)) == entry.size
    assert encoding.blob_of(encoding.pack_entry(entry)) == entry.blob


@given(ENTRIES, ENTRIES)
def test_identity_is_size_checksum_content_type_and_metadata(one: Entry, other: Entry) -> None:
    def identity(entry: Entry) -> tuple:
        return entry.size, entry.checksum, entry.content_type, entry.metadata

    assert encoding.same_object(encoding.pack_entry(one), encoding.pack_entry(other)) == (
        identity(one) == identity(other)
    )


@given(ENTRIES, st.integers(0, 2**40), st.none() | st.binary(min_size=32, max_size=32))
def test_time_and_address_are_no_part_of_identity(entry: Entry, mtime: int, blob: bytes | None) -> None:
    moved = replace(entry, mtime=mtime, blob=blob, location="" if blob else "/elsewhere")
    assert encoding.same_object(encoding.pack_entry(entry), encoding.pack_entry(moved))


def test_an_object_is_not_the_same_as_no_object() -> None:
    record = encoding.pack_entry(Entry("abc", 1, 2, location="/x"))
    assert not encoding.same_object(record, None)
    assert not encoding.same_object(None, record)
    assert encoding.same_object(None, None)
