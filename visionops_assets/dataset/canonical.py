"""The digest of a table's content, whatever library or version wrote it.

Parquet bytes change with the library that writes them; an identity must not. Format 1: SHA-256 over, for the
table, its column names and types and the number of rows, then for each column
- a byte a row, 1 where there is a value;
- numbers, times and booleans as little-endian values, 0 where there is none;
- text as int64 lengths in UTF-8, then all the text; lists as int64 lengths, then their values as a column;
  structs as their fields as columns.
"""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FORMAT = 1


def table_content_digest(table: pa.Table) -> str:
    """The SHA-256 (hex) of a table's columns, types, rows and their order. Schema metadata does not count.

    Raises `TypeError` for a type of column that has no canonical form here.
    """
    fields = [[field.name, _type_name(field.type)] for field in table.schema]
    digest = hashlib.sha256(json.dumps([FORMAT, fields, len(table)], ensure_ascii=False).encode())
    for name in table.column_names:
        _add(digest, table[name].combine_chunks())
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", column: pa.Array) -> None:
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    digest.update(valid.astype(np.uint8).tobytes())
    kind = column.type
    if pa.types.is_string(kind):
        lengths = pc.fill_null(pc.binary_length(column), 0)
        digest.update(lengths.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        digest.update(_text(column.drop_null()))
    elif pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        digest.update(lengths.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        _add(digest, column.drop_null().flatten())
    elif pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            _add(digest, pc.struct_field(column, index))
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


def _text(column: pa.Array) -> bytes:
    if not len(column):
        return b""
    _, offsets, content = column.buffers()
    ends = np.frombuffer(offsets, "<i4", len(column) + 1, column.offset * 4)
    return b"" if content is None else content.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes()


def _little_endian(column: pa.Array) -> bytes:
    values = column.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
