"""Files of the spool: written by whoever predicts or labels, read by the collector, which trusts none of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from visionops_assets.monitoring.inference_log import (
    FORMAT,
    FORMAT_KEY,
    LABELS_FORMAT,
    TASK_KEY,
    labels_schema,
    spool_schema,
)
from visionops_assets.tables import arrow_parquet

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
    """Read one file. Raises `UnusableFile` for anything but a table of this task in a format that is known here."""
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            # A device leaves a few rows a file: threads cost more than they read.
            found = file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnusableFile(f"is no Parquet file ({_first_line(error)}); write it again") from error
    described = found.schema.metadata or {}
    stated = described.get(FORMAT_KEY, b"").decode(errors="replace")
    if stated not in _KINDS:
        known = " or ".join(_KINDS)
        raise UnusableFile(f"has the format {stated or 'none'!r}, {known} is read here; update the writer")
    if (written_for := described.get(TASK_KEY, b"").decode(errors="replace")) != task:
        raise UnusableFile(f"is of the task {written_for or 'none'!r}, the project's is {task!r}")
    kind = _KINDS[stated]
    schema = spool_schema(task) if kind == "log" else labels_schema(task)
    _check_columns(found.column_names, schema.names)
    return SpooledFile(kind, with_types(found, schema))


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
