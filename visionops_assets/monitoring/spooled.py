"""Files of the spool: written by whoever predicts or labels, read by the collector, which trusts none of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from visionops_assets.common.tables import arrow_parquet
from visionops_assets.monitoring.inference_log import (
    FORMAT,
    FORMAT_KEY,
    LABELS_FORMAT,
    TASK_KEY,
    labels_schema,
    spool_schema,
)

# What a file may be, and what its rows may take: of its own size a multiple, since text that is repeated is written
# once. A thousand files are collected at once.
LARGEST_BYTES = 256 << 20
MOST_ROWS = 1_000_000
LONGEST_DEVICE, LONGEST_TEXT = 256, 1024
_FREE_BYTES, _MOST_TIMES = 256 << 10, 64
_MOST_TEXT_BYTES = 256 << 20
_LARGEST_FOOTER, _MOST_PARTS = 16 << 20, 1_000_000

Kind = Literal["log", "labels"]
_KINDS: dict[str, Kind] = {FORMAT: "log", LABELS_FORMAT: "labels"}


class UnusableFile(ValueError):
    """A spooled file that cannot be read as what it should be; the message says what was expected."""


@dataclass(frozen=True)
class SpooledFile:
    """One file of the spool as a table with exactly the columns of its kind; any value may still be null or absurd."""

    kind: Kind
    rows: pa.Table


def spooled_log(task: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Predictions as the bytes of a spooled file. Raises ValueError where a row lacks a value that must be there."""
    return _file(rows, spool_schema(task), FORMAT, task)


def spooled_labels(task: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Labels as the bytes of a spooled file. Raises ValueError where a row lacks a value."""
    return _file(rows, labels_schema(task), LABELS_FORMAT, task)


def read_spooled(content: bytes, task: str) -> SpooledFile:
    """Read one file. Raises `UnusableFile` for anything but a table of this task in a format that is known here, of an
    ordinary size; MemoryError where there is not enough to find out: `spool_reader` reads what devices send.
    """
    try:
        limits = {"thrift_string_size_limit": _LARGEST_FOOTER, "thrift_container_size_limit": _MOST_PARTS}
        with pq.ParquetFile(pa.BufferReader(content), **limits) as file:
            kind, schema = _described(file, task)
            footer = file.metadata
        texts = [field.name for field in schema if field.type == pa.string()]
        # Each different text once.
        with pq.ParquetFile(
            pa.BufferReader(content), metadata=footer, read_dictionary=texts, **limits
        ) as file:
            # A device leaves a few rows a file: threads cost more than they read.
            found = file.read(use_threads=False)
    except (UnusableFile, MemoryError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnusableFile(f"is no Parquet file ({_first_line(error)}); write it again") from error
    _check_lengths(found)
    rows = with_types(found, schema)
    allowed = _FREE_BYTES + _MOST_TIMES * len(content)
    if (taken := rows.nbytes) > allowed:
        raise UnusableFile(
            f"has {len(content):,} bytes and takes {taken:,}, at most {allowed:,} are believed"
        )
    return SpooledFile(kind, rows)


def _described(file: pq.ParquetFile, task: str) -> tuple[Kind, pa.Schema]:
    """What a file says that it holds, before any of it is read."""
    described = file.schema_arrow.metadata or {}
    stated = described.get(FORMAT_KEY, b"").decode(errors="replace")
    if stated not in _KINDS:
        known = " or ".join(_KINDS)
        raise UnusableFile(f"has the format {stated or 'none'!r}, {known} is read here; update the writer")
    if (written_for := described.get(TASK_KEY, b"").decode(errors="replace")) != task:
        raise UnusableFile(f"is of the task {written_for or 'none'!r}, the project's is {task!r}")
    kind = _KINDS[stated]
    schema = spool_schema(task) if kind == "log" else labels_schema(task)
    _check_columns(file.schema_arrow.names, schema.names)
    if file.metadata.num_rows > MOST_ROWS:
        raise UnusableFile(
            f"has {file.metadata.num_rows:,} rows, at most {MOST_ROWS:,} are read; write smaller files"
        )
    return kind, schema


def _check_lengths(table: pa.Table) -> None:
    """Refuse long texts while each different one is held once: of repeated ones a file may have a million."""
    for name in table.column_names:
        longest = LONGEST_DEVICE if name in ("device", "device_group") else LONGEST_TEXT
        found, rows = 0, table[name]
        for part in rows.chunks:
            texts = part.dictionary if pa.types.is_dictionary(part.type) else part
            if pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type):
                found = max(found, pc.max(pc.binary_length(texts)).as_py() or 0)
        if found > longest:
            raise UnusableFile(f"has a text of {found:,} bytes in `{name}`, at most {longest} are read")
        if found * len(rows) > _MOST_TEXT_BYTES:
            raise UnusableFile(
                f"has {len(rows):,} texts of up to {found} bytes in `{name}`; write fewer rows a file"
            )


def with_types(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The schema's columns in its types, nulls allowed: which rows lack a value is said row by row.

    Raises `UnusableFile` where a column is of another type.
    """
    lenient = pa.schema([field.with_nullable(True) for field in schema])
    columns = []
    for field in lenient:
        column = table[field.name]
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except (pa.ArrowException, ValueError) as error:
            raise UnusableFile(
                f"has {column.type} in `{field.name}`, {field.type} is expected ({_first_line(error)})"
            ) from error
    return pa.table(columns, schema=lenient)


def _check_columns(found: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    twice = sorted({name for name in found if found.count(name) > 1})
    faults = [
        f"{what} {', '.join(names)}"
        for what, names in (("lacks", missing), ("has beside its columns", extra), ("has twice", twice))
        if names
    ]
    if faults:
        raise UnusableFile(f"{' and '.join(faults)}; write the columns of the format that it states")


def _file(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, name: str, task: str) -> bytes:
    for row in rows:
        absent = [field.name for field in schema if not field.nullable and row.get(field.name) is None]
        if absent:
            raise ValueError(f"a row of the spool lacks {', '.join(absent)}: {dict(row)}")
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    return arrow_parquet(table.replace_schema_metadata({FORMAT_KEY: name.encode(), TASK_KEY: task.encode()}))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
