"""Arrow columns as long as a batch: the digest of their content, texts without an object for each, memory given
back.

Parquet bytes change with the library that writes them; an identity must not. Format 1: SHA-256 over, for the
table, its column names and types and the number of rows, then for each column
- a byte a row, 1 where there is a value;
- numbers, times and booleans as little-endian values, 0 where there is none;
- text as int64 lengths in UTF-8, then all the text; lists as int64 lengths, then their values as a column;
  structs as their fields as columns.
"""

import binascii
import hashlib
import json
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

DIGEST_FORMAT = 1
AT_ONCE = 512
_DIGITS_AT_ONCE = 4096
Item = TypeVar("Item", covariant=True)


def table_content_digest(table: pa.Table) -> str:
    """The SHA-256 (hex) of a table's columns, types, rows and their order. Schema metadata does not count.

    Raises `TypeError` for a type of column that has no canonical form here.
    """
    fields = [[field.name, _type_name(field.type)] for field in table.schema]
    digest = hashlib.sha256(json.dumps([DIGEST_FORMAT, fields, len(table)], ensure_ascii=False).encode())
    for name in table.column_names:
        _add_column(digest, table[name].combine_chunks())
    return digest.hexdigest()


def _add_column(digest: "hashlib._Hash", column: pa.Array) -> None:
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    digest.update(valid.astype(np.uint8).tobytes())
    kind = column.type
    if pa.types.is_string(kind):
        lengths = pc.fill_null(pc.binary_length(column), 0)
        digest.update(lengths.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        digest.update(_add_text(column.drop_null()))
    elif pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        digest.update(lengths.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        _add_column(digest, column.drop_null().flatten())
    elif pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            _add_column(digest, pc.struct_field(column, index))
    elif pa.types.is_boolean(kind):
        digest.update(pc.fill_null(column, False).to_numpy(zero_copy_only=False).astype(np.uint8).tobytes())
    elif pa.types.is_timestamp(kind):
        digest.update(_little_endian(pc.fill_null(column.cast(pa.int64()), 0)))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        digest.update(_little_endian(pc.fill_null(column, 0)))
    else:
        raise TypeError(f"a column of type {kind} has no canonical form")


def _type_name(kind: pa.DataType) -> str:
    """Arrow's name of a type; of nested ones without the names that writers give to list items."""
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {_type_name(field.type)}' for field in kind)}>"
    return str(kind)


def _add_text(column: pa.Array) -> bytes:
    if not len(column):
        return b""
    _, offsets, content = column.buffers()
    ends = np.frombuffer(offsets, "<i4", len(column) + 1, column.offset * 4)
    return b"" if content is None else content.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes()


def _little_endian(column: pa.Array) -> bytes:
    values = column.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


class TextColumn:
    """Takes texts one by one, or None; also texts that are no Unicode, as names of files may be."""

    def __init__(self, texts: Iterable[str | None] = ()) -> None:
        # What came before the first text takes no room.
        self._none_before = 0
        self._content, self._ends, self._known = bytearray(), array("i", [0]), bytearray()
        for text in texts:
            self.add(text)

    def add(self, text: str | None) -> None:
        """One more."""
        if text is None and not self._known:
            self._none_before += 1
            return
        if not self._known:
            self._begin()
        if text is not None:
            self._content += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._content))
        self._known.append(text is not None)

    def array(self) -> pa.Array:
        """All of them as bytes, None as null. Takes no more after that."""
        if not self._known:
            self._begin()
        known = None
        if 0 in self._known:
            known = pa.py_buffer(np.packbits(np.frombuffer(self._known, bool), bitorder="little"))
        buffers = [known, pa.py_buffer(self._ends), pa.py_buffer(self._content)]
        return pa.Array.from_buffers(pa.binary(), len(self._known), buffers)

    def array_if_any(self) -> pa.Array | None:
        """The same, or None where no text came."""
        return self.array() if self._known else None

    def _begin(self) -> None:
        self._ends.extend([0] * self._none_before)
        self._known += bytes(self._none_before)


def decoded(text: bytes) -> str:
    """What a `TextColumn` encoded."""
    return text.decode("utf-8", "surrogatepass")


def in_order(texts: pa.Array) -> NDArray[np.int64]:
    """The places of texts, sorted by their bytes, int64 (N,)."""
    found: NDArray[np.int64] = pc.sort_indices(texts).to_numpy().view(np.int64)
    return found


def hex_texts(raw: NDArray[np.uint8]) -> pa.Array:
    """uint8 (N, B) as text of 2·B hex digits each."""
    rows, width = raw.shape
    ends = np.arange(0, 2 * width * rows + 1, 2 * width, dtype=np.int32)
    content = binascii.hexlify(np.ascontiguousarray(raw).data) if rows else b""
    return pa.StringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(content))


def bytes_of_hex(texts: pa.Array | pa.ChunkedArray, width: int) -> NDArray[np.uint8]:
    """Texts of 2·B hex digits as uint8 (N, B); `width` is B."""
    raw = np.empty((len(texts), width), np.uint8)
    for start in range(0, len(texts), _DIGITS_AT_ONCE):
        some = "".join(texts[start : start + _DIGITS_AT_ONCE].to_pylist())
        raw[start : start + _DIGITS_AT_ONCE] = np.frombuffer(bytes.fromhex(some), np.uint8).reshape(-1, width)
    return raw


def number_keys(keys: NDArray[np.uint8]) -> NDArray[np.int32]:
    """A number for each of the keys (N, 32), equal where they are, from 0."""
    words = keys.view(np.uint64)
    order = np.argsort(words[:, 0])
    starts = _key_starts(words, order)
    # Equal keys stand together but where two keys begin with the same eight bytes.
    if (starts[1:] & (words[order[1:], 0] == words[order[:-1], 0])).any():
        order = np.lexsort(words.T)
        starts = _key_starts(words, order)
    numbers = np.empty(len(order), np.int32)
    numbers[order] = np.cumsum(starts) - 1
    return numbers


def _key_starts(words: NDArray[np.uint64], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where another key begins, in this order."""
    starts = np.ones(len(order), bool)
    for start in range(1, len(order), _DIGITS_AT_ONCE):
        here = order[start : start + _DIGITS_AT_ONCE]
        before = order[start - 1 : start - 1 + len(here)]
        starts[start : start + len(here)] = (words[here] != words[before]).any(axis=1)
    return starts


class MadeInPortions(Sequence[Item]):
    """A sequence that keeps columns; `portion` makes the items of some neighbouring places."""

    @abstractmethod
    def portion(self, start: int, stop: int) -> list[Item]:
        """The items from `start` to before `stop`, both within the sequence."""

    @overload
    def __getitem__(self, key: int) -> Item: ...
    @overload
    def __getitem__(self, key: slice) -> list[Item]: ...
    def __getitem__(self, key: int | slice) -> Item | list[Item]:
        places = range(len(self))[key]
        if isinstance(places, int):
            return self.portion(places, places + 1)[0]
        if places.step == 1:
            return self.portion(places.start, max(places.start, places.stop))
        return [self[place] for place in places]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), AT_ONCE):
            yield from self.portion(start, min(start + AT_ONCE, len(self)))


@contextmanager
def system_memory_pool() -> Iterator[None]:
    """Let Arrow take what it needs from the system and give it back.

    Its own pool takes several times as much, and keeps it. All threads of the process are concerned.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def release_memory() -> None:
    """Give the system what a stage has freed, before the next one takes more: by itself it stays in pieces."""
    pa.system_memory_pool().release_unused()
