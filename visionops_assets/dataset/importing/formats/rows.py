"""The rows of a CSV or Parquet table, a bounded number in memory at once."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from visionops_assets.dataset.importing.portions import AT_ONCE
from visionops_assets.dataset.importing.source import SourceError


@dataclass(frozen=True)
class Rows:
    """The names of a table's columns, and its rows by them: what pandas would make of the whole table."""

    columns: list[str]
    read: Callable[[], Iterator[dict[str, Any]]]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.read()


def csv_rows(table: Path) -> Rows:
    """A CSV table, whose delimiter the first line tells. Raises `SourceError` where it is none, naming row and fix."""
    delimiter = _delimiter(table)
    header, broken = None, ""
    try:
        for number, row in enumerate(_csv(table, delimiter), start=1):
            if header is None:
                header = [name.strip() for name in row]
            elif len(row) != len(header) and not broken:
                broken = f"row {number} has {len(row)} fields, the first line names {len(header)} columns"
    except csv.Error as error:
        raise SourceError(f"{table}: is not a CSV table: {error}") from error
    if header is None:
        raise SourceError(f"{table}: is empty; expected a first line with the names of the columns")
    if broken:
        raise SourceError(f"{table}: {broken}")
    columns = header

    def read() -> Iterator[dict[str, Any]]:
        rows = _csv(table, delimiter)
        next(rows)
        for row in rows:
            yield dict(zip(columns, row, strict=True))

    return Rows(columns, read)


def parquet_rows(table: Path) -> Rows:
    """A Parquet table. Raises `SourceError` where it cannot be read."""
    try:
        file = pq.ParquetFile(table)
        empty = file.schema_arrow.empty_table().to_pandas()
        partly = _integers_with_gaps(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(table, error) from error

    def read() -> Iterator[dict[str, Any]]:
        try:
            for batch in pq.ParquetFile(table).iter_batches(AT_ONCE):
                frame = batch.to_pandas()
                # Where the whole column has a gap, pandas has no integers.
                frame = frame.astype({name: "float64" for name in partly if _integers(frame[name])})
                for record in frame.to_dict("records"):
                    yield {str(column): value for column, value in record.items()}
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(table, error) from error

    return Rows([str(column) for column in empty.columns], read)


def _delimiter(table: Path) -> str:
    try:
        with _opened(table) as stream:
            head = stream.readline()
            while stream.read(1 << 20):
                pass
    except UnicodeDecodeError:
        head = _whole(table)
    return max(",;\t", key=head.count)


def _whole(table: Path) -> str:
    """The text, or which byte of the whole file is none."""
    try:
        return table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{table}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def _csv(table: Path, delimiter: str) -> Iterator[list[str]]:
    with _opened(table) as stream:
        yield from (row for row in csv.reader(stream, delimiter=delimiter, strict=True) if row)


def _opened(table: Path) -> TextIO:
    return table.open(encoding="utf-8-sig")


def _integers_with_gaps(file: pq.ParquetFile) -> list[str]:
    integers = [field.name for field in file.schema_arrow if pa.types.is_integer(field.type)]
    gaps = dict.fromkeys(integers, 0)
    if integers:
        for batch in file.iter_batches(AT_ONCE, columns=integers):
            for name in integers:
                gaps[name] += batch[name].null_count
    return [name for name in integers if gaps[name]]


def _integers(column: pd.Series) -> bool:
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu"


def _unreadable(table: Path, error: Exception) -> SourceError:
    return SourceError(f"{table}: is not a Parquet file that can be read: {error}")
