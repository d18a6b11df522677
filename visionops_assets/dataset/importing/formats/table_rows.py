"""The rows of a CSV, JSON Lines or Parquet table, a bounded number in memory at once."""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from visionops_assets.dataset.importing.formats.json_and_xml import parsed_json
from visionops_assets.dataset.importing.image_source import SourceError, quoted
from visionops_assets.dataset.importing.parquet_process import Bounds, TableRefused, read_parquet
from visionops_assets.dataset.importing.plain_text import (
    encoding_of,
    is_number,
    is_whole,
    lines_of,
    not_text,
    open_text,
)
from visionops_assets.dataset.importing.source_files import (
    COLUMNS,
    TABLE,
    TIMES,
    SourceFile,
    size_of,
    source_limits,
    too_much,
)

_DELIMITER = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Rows:
    """The names of a table's columns, and its rows by them, each with the number that people find it by."""

    columns: list[str]
    read: Callable[[], Iterator[tuple[int, dict[str, Any]]]]
    # Names of the numbers in a column, where the table has them.
    names: dict[str, list[str]]
    # Rows without anything in them.
    empty: int = 0
    # Its delimiter is no comma, so that one in a number is a decimal comma.
    commas_are_decimal: bool = False

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return self.read()


def read_rows(table: SourceFile, encoding: str | None = None) -> Rows:
    """A table by its suffix. Raises `SourceError` naming file and fix."""
    suffix = table.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(table)
    try:
        return _json_rows(table, encoding) if suffix in (".jsonl", ".ndjson") else _csv_rows(table, encoding)
    except UnicodeError as error:
        raise not_text(table, encoding_of(table, encoding)) from error


def _csv_rows(table: SourceFile, encoding: str | None) -> Rows:
    """A CSV table, whose delimiter the first line tells."""
    with open_text(table, encoding) as stream:
        head = next(lines_of(stream, table), "")
        while stream.read(1 << 20):
            pass
    # Excel says its delimiter in a line before the table.
    said = _DELIMITER.fullmatch(head.strip())
    delimiter = said[1] if said else max(",;\t", key=head.count)

    def lines() -> Iterator[tuple[int, list[str]]]:
        with open_text(table, encoding) as stream:
            reader = csv.reader(lines_of(stream, table), delimiter=delimiter, strict=True)
            # Rows are counted as spreadsheets show them.
            yield from itertools.islice(
                enumerate((row for row in reader if row), start=1), int(said is not None), None
            )

    header, broken, empty, number = None, "", 0, 0
    try:
        for number, row in lines():
            if header is None:
                header = [name.strip() for name in row]
                if len(header) > source_limits().columns:
                    raise too_much(table, f"has {len(header):,} columns", COLUMNS)
            elif not any(field.strip() for field in row):
                empty += 1
            elif len(row) != len(header) and not broken:
                broken = f"row {number} has {len(row)} fields, the first line names {len(header)} columns"
    except csv.Error as error:
        raise SourceError(
            f"{table}: is not a CSV table: after row {number} a field in quotes does not end, or goes on behind them; "
            'write " within one as ""'
        ) from error
    if header is None:
        raise SourceError(f"{table}: is empty; expected a first line with the names of the columns")
    if broken:
        raise SourceError(f"{table}: {broken}")
    columns = header
    twice = next((name for name, times in Counter(columns).items() if name and times > 1), None)
    if twice is not None and is_number(twice):
        raise SourceError(
            f"{table}: its first line names no columns; add one before it, for example path,label"
        )
    if twice is not None:
        raise SourceError(f"{table}: has two columns called {quoted(twice)}; rename one")

    def read() -> Iterator[tuple[int, dict[str, Any]]]:
        rows = lines()
        next(rows)
        for number, row in rows:
            if any(field.strip() for field in row):
                yield number, dict(zip(columns, row, strict=True))

    return Rows(columns, read, {}, empty, delimiter != ",")


def _json_rows(table: SourceFile, encoding: str | None) -> Rows:
    def read() -> Iterator[tuple[int, dict[str, Any]]]:
        with open_text(table, encoding) as stream:
            for number, line in enumerate(lines_of(stream, table), start=1):
                if line.strip():
                    try:
                        row = parsed_json(line, f"{table}: line {number}")
                    except SourceError:
                        raise
                    except ValueError as error:
                        raise SourceError(
                            f"{table}: line {number} is not JSON that can be read; expected one object a line"
                        ) from error
                    if not isinstance(row, dict):
                        raise SourceError(f"{table}: line {number} is no JSON object; expected one a line")
                    if not is_whole(line):
                        raise SourceError(
                            f"{table}: line {number} has half of a character (\\ud800 to \\udfff alone); write it whole"
                        )
                    yield number, row

    columns: dict[str, None] = {}
    for _, row in read():
        columns |= dict.fromkeys(row)
        if len(columns) > source_limits().columns:
            raise too_much(table, f"has more than {source_limits().columns:,} columns", COLUMNS)
    return Rows(list(columns), read, {})


def _parquet_rows(table: SourceFile) -> Rows:
    with _batches(table, schema_only=True) as batches:
        (schema,) = batches
    columns, names = schema.names, _class_names(schema, table)
    if len(columns) > source_limits().columns:
        raise too_much(table, f"has {len(columns):,} columns", COLUMNS)

    def read() -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        with _batches(table) as batches:
            next(batches)
            for batch in batches:
                # One row after the other: images may be among them.
                for place in range(len(batch)):
                    yield (
                        number,
                        {
                            name: batch.column(at)[place].as_py()
                            for at, name in enumerate(columns)
                            # What pandas numbers its rows with.
                            if not name.startswith("__index_level_")
                        },
                    )
                    number += 1

    return Rows([name for name in columns if not name.startswith("__index_level_")], read, names)


@contextmanager
def _batches(table: SourceFile, *, schema_only: bool = False) -> Iterator[Iterator[Any]]:
    """The schema of a Parquet table, then its rows. Raises `SourceError` naming it, and the setting it is beyond."""
    limits, settings = source_limits(), {"times": TIMES, "memory": TABLE}
    with table.open() as stream:
        size = size_of(stream)
        bounds = Bounds(limits.rows(size), limits.in_memory(size), limits.table)
        try:
            with closing(read_parquet(stream.fileno(), bounds, schema_only=schema_only)) as batches:
                yield batches
        except TableRefused as error:
            if error.setting:
                raise too_much(table, str(error), settings[error.setting]) from error
            raise SourceError(f"{table}: {error}") from error


def _class_names(schema: pa.Schema, table: SourceFile) -> dict[str, list[str]]:
    """The names of class numbers that Hugging Face's `datasets` keeps beside the columns."""
    try:
        said = (schema.metadata or {})[b"huggingface"].decode()
        features = parsed_json(said, f"{table}: `huggingface` in its metadata")["info"]["features"]
    except SourceError:
        raise
    except (KeyError, ValueError, TypeError):
        return {}
    named = {column: _names_in(feature) for column, feature in features.items() if isinstance(features, dict)}
    return {column: names for column, names in named.items() if names}


def _names_in(feature: Any) -> list[str] | None:
    if isinstance(feature, dict):
        if isinstance(feature.get("names"), list):
            return [str(name) for name in feature["names"]]
        return next((names for one in feature.values() if (names := _names_in(one))), None)
    if isinstance(feature, list):
        return next((names for one in feature if (names := _names_in(one))), None)
    return None


def class_of(value: Any, names: list[str]) -> str:
    """The class that a value is, by its number where the table names the numbers."""
    if names and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return identity_of(value)


def identity_of(value: Any) -> str:
    """What a value says: a whole number that went through floating point is that number."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return str(int(value))
    return str(value).strip()


def text_of(value: Any) -> str:
    """A value as text, where there is one."""
    return "" if absent(value) else str(value)


def absent(value: Any) -> bool:
    """Whether a field says nothing."""
    return value is None or value == "" or (isinstance(value, float) and value != value) or value is pd.NaT
