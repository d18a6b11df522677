"""A table of labels beside the images: CSV (comma, semicolon or tab) or Parquet.

One row an image, with a column that names it (relative to the table) and one with its label; or in Parquet a
column `boxes`. `split`, `group`, `captured_at` (UTC unless it says otherwise) and `source` are understood; any
other column is kept.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from visionops_assets.dataset.findings import Finding, findings_table
from visionops_assets.dataset.importing.formats.rows import Rows, csv_rows, parquet_rows
from visionops_assets.dataset.importing.gathering import Gathering
from visionops_assets.dataset.importing.listing import Index, Names, image_files, paths_in
from visionops_assets.dataset.importing.source import SPLIT_NAMES, Folder, Source, SourceError

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
    rows = parquet_rows(table) if table.suffix == ".parquet" else csv_rows(table)
    image_column = _column(rows, _IMAGE, table)
    truth_column = "boxes" if "boxes" in rows.columns else _column(rows, _LABEL, table)
    files, findings = image_files(folder)
    by_name, taken = Index(files), np.zeros(len(files), bool)
    images = Gathering(Folder(str(folder)))
    for number, row in enumerate(rows):
        where = f"{table.name}, row {number + 2 if table.suffix != '.parquet' else number}"
        name, position = _find(row.pop(image_column), by_name)
        if position is None:
            shown = name or "an empty name"
            findings.append(
                Finding(
                    "complete", shown, f"is annotated ({where}) but is not there", "add it, or remove its row"
                )
            )
        elif taken[position]:
            findings.append(Finding("annotated once", name, f"is annotated again in {where}", "keep one row"))
        else:
            taken[position] = True
            truth = row.pop(truth_column)
            _add(images, name, truth_column == "boxes", truth, row, where, findings)
    findings += _left_out(files, taken, table)
    return Source(NAME, images.images().by_name(), findings_table(findings))


def _left_out(files: Names, taken: np.ndarray, table: Path) -> Iterator[Finding]:
    for name in sorted(files[position] for position in np.flatnonzero(~taken).tolist()):
        yield Finding("annotated", name, f"is not in {table.name}", "it has no label and is left out", "WARN")


def _tables(source: Path) -> list[Path]:
    suffixes = (".csv", ".tsv", ".parquet")
    if source.is_file():
        return [source] if source.suffix in suffixes else []
    if not source.is_dir():
        return []
    return paths_in(source, lambda name: name.endswith(suffixes) and not name.startswith("."))


def _column(rows: Rows, names: tuple[str, ...], table: Path) -> str:
    lowered = {column.lower(): column for column in rows.columns}
    for name in names:
        if name in lowered:
            return lowered[name]
    raise SourceError(
        f"{table}: none of its columns ({', '.join(rows.columns)}) is called {', '.join(names)}; rename one"
    )


def _find(value: object, by_name: Index) -> tuple[str, int | None]:
    """The image's path from the table's folder, and its place among the files: as given, or below `images/`, or what
    follows it in a repository's path."""
    if _absent(value):
        return "", None
    name = PurePosixPath(str(value).strip()).as_posix()
    after = name.partition("/images/")[2]
    for one in (name, f"images/{name}", after, f"images/{after}"):
        position = by_name.first(one)
        if position is not None:
            return one, position
    return name, None


def _add(
    images: Gathering,
    name: str,
    detection: bool,
    truth: Any,
    row: dict[str, Any],
    where: str,
    findings: list[Finding],
) -> None:
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
    images.add(
        name,
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
