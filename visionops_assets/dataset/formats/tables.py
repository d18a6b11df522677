"""A table of labels beside the images: CSV (comma, semicolon or tab) or Parquet.

One row an image, with a column that names it (relative to the table) and one with its label; or in Parquet a
column `boxes`. `split`, `group`, `captured_at` (UTC unless it says otherwise) and `source` are understood; any
other column is kept.
"""

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa

from visionops_assets.dataset.findings import Finding, findings_table
from visionops_assets.dataset.formats.source import (
    SPLIT_NAMES,
    FileBytes,
    Source,
    SourceError,
    SourceImage,
    image_files,
)

NAME = "table"

_IMAGE = ("path", "image", "image_path", "filename", "file_name", "file", "name")
_LABEL = ("label", "class", "category", "target", "class_name")
# Of the canonical annotations, what is found anew at the audit.
_AUDITED = frozenset({"sha256", "phash", "width", "height", "size", "excluded", "batch"})


def recognises(source: Path) -> bool:
    """Whether the source is a table, or a folder with exactly one at its top."""
    return len(_tables(source)) == 1


def read(source: Path) -> Source:
    """Every image that the table names. Raises `SourceError` naming the table and its columns."""
    tables = _tables(source)
    if len(tables) != 1:
        raise SourceError(f"{source}: expected one table (*.csv, *.tsv or *.parquet), found {len(tables)}")
    return read_table(tables[0], tables[0].parent)


def read_table(table: Path, folder: Path) -> Source:
    """Every image under a folder that a table names. Raises `SourceError` naming the table and its columns."""
    rows = _read_parquet(table) if table.suffix == ".parquet" else _read_csv(table)
    image_column = _column(rows, _IMAGE, table)
    truth_column = "boxes" if "boxes" in rows.columns else _column(rows, _LABEL, table)
    files, findings = image_files(folder)
    by_name = {path.relative_to(folder).as_posix(): path for path in files}
    images: dict[str, SourceImage] = {}
    for number, record in enumerate(rows.to_dict("records")):
        row = {str(column): value for column, value in record.items()}
        where = f"{table.name}, row {number + 2 if table.suffix != '.parquet' else number}"
        name = _name(row.pop(image_column), by_name)
        if name is None or name not in by_name:
            shown = name or "an empty name"
            findings.append(
                Finding(
                    "complete", shown, f"is annotated ({where}) but is not there", "add it, or remove its row"
                )
            )
        elif name in images:
            findings.append(Finding("annotated once", name, f"is annotated again in {where}", "keep one row"))
        else:
            truth = row.pop(truth_column)
            images[name] = _image(name, by_name[name], truth_column == "boxes", truth, row, where, findings)
    for name in sorted(by_name.keys() - images.keys()):
        findings.append(
            Finding("annotated", name, f"is not in {table.name}", "it has no label and is left out", "WARN")
        )
    return Source(NAME, [images[name] for name in sorted(images)], findings_table(findings))


def _tables(source: Path) -> list[Path]:
    suffixes = (".csv", ".tsv", ".parquet")
    if source.is_file():
        return [source] if source.suffix in suffixes else []
    return sorted(
        path for path in source.glob("*") if path.suffix in suffixes and not path.name.startswith(".")
    )


def _read_csv(table: Path) -> pd.DataFrame:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{table}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    head = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=head.count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise SourceError(f"{table}: is not a CSV table: {error}") from error
    rows = [row for row in rows if row]
    if not rows:
        raise SourceError(f"{table}: is empty; expected a first line with the names of the columns")
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise SourceError(
                f"{table}: row {number} has {len(row)} fields, the first line names {len(header)} columns"
            )
    return pd.DataFrame(rows[1:], columns=header, dtype=object)


def _read_parquet(table: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(table)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{table}: is not a Parquet file that can be read: {error}") from error


def _column(rows: pd.DataFrame, names: tuple[str, ...], table: Path) -> str:
    lowered = {str(column).lower(): str(column) for column in rows.columns}
    for name in names:
        if name in lowered:
            return lowered[name]
    raise SourceError(
        f"{table}: none of its columns ({', '.join(map(str, rows.columns))}) is called {', '.join(names)}; rename one"
    )


def _name(value: object, by_name: Mapping[str, Path]) -> str | None:
    """The image's path from the table's folder: as given, or below `images/`, or what follows it in a
    repository's path."""
    if _absent(value):
        return None
    name = PurePosixPath(str(value).strip()).as_posix()
    below = f"images/{name}"
    after = name.partition("/images/")[2]
    return next((one for one in (name, below, after, f"images/{after}") if one in by_name), name)


def _image(
    name: str,
    path: Path,
    detection: bool,
    truth: Any,
    row: dict[str, Any],
    where: str,
    findings: list[Finding],
) -> SourceImage:
    label = None if detection or _absent(truth) else str(truth).strip()
    if not detection and not label:
        findings.append(
            Finding("annotated", name, f"has no label ({where})", "give it one, or remove its row")
        )
    split = None if _absent(row.get("split")) else str(row["split"]).strip().lower()
    if split is not None and split not in SPLIT_NAMES:
        findings.append(
            Finding(
                "split known",
                name,
                f"has the split {split!r} ({where})",
                f"expected {', '.join(SPLIT_NAMES)}",
            )
        )
    known = {"split", "group", "captured_at", "source", *_AUDITED}
    return SourceImage(
        name,
        FileBytes(str(path)),
        label,
        [dict(box) for box in truth] if detection else None,  # type: ignore[misc]
        split=SPLIT_NAMES.get(split or ""),
        group=None if _absent(row.get("group")) else str(row["group"]).strip(),
        captured_at=_time(row.get("captured_at"), name, where, findings),
        source=None if _absent(row.get("source")) else str(row["source"]),
        extra={key: None if _absent(value) else value for key, value in row.items() if key not in known},
    )


def _time(value: Any, name: str, where: str, findings: list[Finding]) -> datetime | None:
    if _absent(value):
        return None
    try:
        time = pd.Timestamp(value).to_pydatetime()
    except ValueError:
        findings.append(
            Finding(
                "time readable", name, f"has captured_at {value!r} ({where})", "expected 2026-01-31T12:00:00Z"
            )
        )
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _absent(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value) or value is pd.NaT
