"""Tables of labels or boxes beside the images, or with the images in them.

CSV (comma, semicolon or tab), JSON Lines (`metadata.jsonl` of Hugging Face) or Parquet. One row an image, with a column
that names it and one with its label, or with lists of boxes; or one row a box. `split`, `group`, `captured_at` (UTC
unless it says otherwise) and `source` are understood; any other column of one row an image is kept. Images as bytes
in a column are unpacked.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.dataset_task import own_truth
from visionops_assets.dataset.importing.file_listing import Listing, is_image_name
from visionops_assets.dataset.importing.formats.box_columns import (
    BoxColumns,
    OrderUnknown,
    ask_for_order,
    box_columns,
    box_of,
    four_numbers,
    objects_of,
    own_box,
)
from visionops_assets.dataset.importing.formats.table_rows import (
    SUFFIXES,
    Rows,
    absent,
    class_of,
    identity_of,
    read_rows,
    text_of,
)
from visionops_assets.dataset.importing.image_columns import SHARES, ImageRecord
from visionops_assets.dataset.importing.image_source import Box, SourceError, quoted
from visionops_assets.dataset.importing.plain_text import moment_of, says_yes, stated_size
from visionops_assets.dataset.importing.source_files import SourceFile, UnpackedImages
from visionops_assets.dataset.importing.split_names import SPLIT_NAMES, path_stem, split_of
from visionops_assets.dataset.importing.statements import Said, Stated
from visionops_assets.dataset.versions.layout import BATCHES

NAME = "table"

_DECIMAL = re.compile(r"\s*-?\d*,\d+\s*")
_SAY_THE_SAME = "say the same in all rows of an image"

_IMAGE = (
    *("path", "image", "image_path", "filename", "file_name", "file", "name"),
    *("image_id", "image_name", "img", "img_path", "filepath", "file_path"),
)
_LABEL = (
    *("label", "class", "category", "target"),
    *("class_name", "label_name", "classname", "category_name"),
    "choice",
)
_SHOWN = 12
_KNOWN = ("split", "group", "captured_at", "source")
# What stands in columns that are a class each.
_MARKS = frozenset({"0", "1", "0.0", "1.0", "True", "False", "true", "false"})
_OBJECTS = ("objects", "annotations")
# What Kaggle calls the tables that show how answers are to look; the answers in them are made up.
_ANSWERS = re.compile(r"(?:^|[_-])(?:sample)?submission(?:$|[_-])", re.IGNORECASE)
# Of the canonical annotations, what is found anew at the audit.
_AUDITED = frozenset({"sha256", "phash", "width", "height", "size", "excluded", "batch"})


def recognises(listing: Listing) -> str | None:
    """Whether there is a table."""
    found = tables_in(listing)
    return f"{found[0]} is a table" if found else None


def tables_in(listing: Listing) -> list[str]:
    """The tables: those that lie with the images, or the ones that say how they are called."""
    return listing.ending(*SUFFIXES)


def read(listing: Listing, stated: Stated) -> Said:
    """What the tables say. Raises `SourceError` naming the table and its columns."""
    said = Said(kept_by="row", why_unlabelled="is in no table")
    found = tables_in(listing)
    problems: list[SourceError] = []
    for name in found:
        if _ANSWERS.search(path_stem(name.rpartition("/")[2])):
            said.not_read[name] = "is a form for answers, whose labels are made up"
            problems.append(
                SourceError(f"{listing.file(name)}: {said.not_read[name]}; give the table of labels")
            )
            continue
        rows = read_rows(listing.file(name), stated.encoding)
        try:
            table = _Table(said, name, str(listing.file(name)), rows, stated, len(found) > 1)
        except SourceError as error:
            problems.append(error)
            said.not_read[name] = "names no image, or no label"
            continue
        said.read.add(name)
        table.read()
    if not said.read:
        raise (
            problems[0]
            if problems
            else SourceError(
                f"{listing.root}: expected a table (*.csv, *.tsv, *.parquet or metadata.jsonl), found none"
            )
        )
    if len(said.read) == 1:
        said.why_unlabelled = f"is not in {next(iter(said.read)).rpartition('/')[2]}"
    for name, reason in said.not_read.items():
        said.findings.append(Finding("all read", name, reason, "it is not read", "WARN"))
    return said


def read_table(table: SourceFile, stated: Stated) -> Said:
    """What one table of annotations of ours says, whose paths lead from the repository's root."""
    said = Said(kept_by="row", why_unlabelled=f"is not in {table.name}")
    _Table(said, table.name, str(table), read_rows(table, stated.encoding), stated, False, ours=True).read()
    return said


class _Table:
    def __init__(
        self, said: Said, name: str, shown: str, rows: Rows, stated: Stated, several: bool, ours: bool = False
    ) -> None:
        self._several, self._ours = several, ours
        self._said, self._name, self._rows, self._shown = said, name, rows, shown
        lowered = {column.lower().strip(): column for column in reversed(rows.columns)}
        self._image = _column(lowered, _IMAGE, rows, shown)
        self._objects = next((lowered[one] for one in _OBJECTS if one in lowered), None)
        self._own_boxes = lowered.get("boxes") if "boxes" in rows.columns else None
        labelled = any(name in lowered for name in (*_LABEL, *_OBJECTS)) or self._own_boxes is not None
        self._own = said.own_truth = None if labelled else own_truth(rows.columns)
        self._boxes = None if self._objects or self._own else box_columns(rows.columns, stated.boxes)
        self._order, self._stated, self._commas = stated.boxes, stated, 0
        needs = self._objects is None and self._own is None and not (self._own_boxes and self._struct())
        self._marks = self._marked(lowered) if needs else []
        self._label = _column(lowered, _LABEL, rows, shown) if needs and not self._marks else None
        self._known = {column: lowered.get(column) for column in _KNOWN}

    def read(self) -> None:
        if self._rows.empty:
            what = f"has {self._rows.empty:,} rows with nothing in them"
            self._said.findings.append(Finding("rows", self._name, what, "they are skipped", "WARN"))
        if self._objects is not None or (self._own_boxes and self._struct()):
            self._one_row_an_image()
        elif self._boxes is not None:
            self._one_row_a_box(self._boxes)
        else:
            self._one_row_an_image()

    def _struct(self) -> bool:
        """Whether the column `boxes` has boxes as annotations of ours keep them."""
        for _, row in self._rows:
            value = row.get(self._own_boxes or "")
            if value:
                return isinstance(value, list) and isinstance(value[0], dict)
        return True

    def _one_row_an_image(self) -> None:
        for number, row in self._rows:
            where = f"{self._name}, row {number}"
            name = self._named_image(row.pop(self._image, None), number)
            try:
                label, boxes, frame = self._truth(row, where)
            except SourceError as error:
                if not self._leaves_out(error):
                    raise
                self._said.refuse(name, self._name, number, error)
                continue
            facts = self._facts(row, where)
            self._said.add(
                name,
                self._name,
                number,
                ImageRecord(label, boxes, frame=frame, extra=self._extra(row), **facts),
            )

    def _marked(self, lowered: Mapping[str, str]) -> list[str]:
        """Columns that are a class each, with a 1 for the images of it, where all but the image's are such."""
        if self._boxes is not None or any(name in lowered for name in _LABEL):
            return []
        others = {self._image, *(lowered.get(name) for name in _KNOWN)}
        marks = [column for column in self._rows.columns if column not in others]
        if len(marks) < 2:
            return []
        return (
            marks
            if all(str(row.get(mark)).strip() in _MARKS for _, row in self._rows for mark in marks)
            else []
        )

    def _truth(self, row: dict[str, Any], where: str) -> tuple[str | None, list[Box] | None, tuple[int, int]]:
        """Label or boxes of an image, and the size that is stated of it, taken from its row."""
        if self._objects is not None:
            boxes = self._boxes_of_objects(row.pop(self._objects, None), where)
            return None, boxes, stated_size(row.pop("width", None), row.pop("height", None))
        if self._marks:
            chosen = [mark for mark in self._marks if says_yes(row.pop(mark))]
            if len(chosen) != 1:
                what = f"has the classes {', '.join(chosen)}" if chosen else "has no class"
                self._said.tell("one label an image", f"{what} ({where})", "mark one, or remove its row")
            return chosen[0] if chosen else None, None, (0, 0)
        if self._own is not None:
            column, task = self._own
            try:
                row[column] = task.of_cell(row.get(column))
            except ValueError as error:
                raise SourceError(f"{where}: {error}") from error
            if row[column] is None:
                self._said.tell("annotated", f"has no {column} ({where})", "give them, or remove its row")
            return None, None, (0, 0)
        if self._label is None:
            return None, [own_box(box, where) for box in row.pop(self._own_boxes or "", None) or ()], (0, 0)
        label = self._class(row.pop(self._label, None), self._label) or None
        if label is None:
            self._said.tell("annotated", f"has no label ({where})", "give it one, or remove its row")
        return label, None, (0, 0)

    def _leaves_out(self, error: SourceError) -> bool:
        """Whether what is wrong with one row leaves its image out."""
        return self._stated.leave_out_errors and not isinstance(error, OrderUnknown)

    def _one_row_a_box(self, columns: BoxColumns) -> None:
        boxes: dict[str, list[Box]] = {}
        first: dict[str, tuple[int, dict[str, Any], tuple[int, int]]] = {}
        sizes: dict[str, tuple[int, int]] = {}
        others: dict[str, dict[str, tuple[int, Any]]] = {}
        known = [column for column in self._known.values() if column]
        problems: dict[str, SourceError] = {}
        for number, row in self._rows:
            name = self._named_image(row.get(self._image), number)
            size = stated_size(*(row.get(side) for side in columns.size)) if columns.size else (0, 0)
            first.setdefault(name, (number, {column: row.get(column) for column in known}, size))
            if size != first[name][2]:
                sizes[name] = size
            for column in known:
                if row.get(column) != first[name][1][column]:
                    others.setdefault(name, {}).setdefault(column, (number, row.get(column)))
            mine = boxes.setdefault(name, [])
            try:
                mine += self._boxes_of_row(row, columns, f"{self._shown}, row {number}")
            except SourceError as error:
                if not self._leaves_out(error):
                    raise
                self._said.left_out["cannot be read"] += 1
                problems.setdefault(name, error)
        if self._commas:
            what = f"has {self._commas:,} boxes with decimal commas"
            self._said.findings.append(Finding("numbers", self._name, what, "they are read as such", "WARN"))
        for name, mine in boxes.items():
            number, row, size = first[name]
            if name in problems:
                self._said.left_out["their image has one that cannot be read"] += len(mine)
                self._said.refuse(name, self._name, number, problems[name], counts=False)
                continue
            for column, (place, other) in others.get(name, {}).items():
                one, two = quoted(row[column]), quoted(other)
                what = f"has the {column} {one} in row {number}, {two} in row {place} ({self._name})"
                self._said.tell(
                    "one split" if column == self._known["split"] else "said once", what, _SAY_THE_SAME
                )
            if name in sizes:
                what = f"is said to measure {size[0]}×{size[1]}, and {sizes[name][0]}×{sizes[name][1]}"
                self._said.tell("size as stated", f"{what} ({self._name})", "correct one of the rows")
            self._said.add(
                name,
                self._name,
                number,
                ImageRecord(
                    boxes=mine,
                    frame=SHARES if columns.shares else size,
                    **self._facts(row, f"{self._name}, row {number}"),
                ),
            )

    def _named_image(self, value: Any, number: int) -> str:
        """The text that names the image of a row; one that lies in the table itself is unpacked."""
        inside = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(inside, bytes):
            name = text_of(value.get("path") if isinstance(value, dict) else value)
            return name.partition("/images/")[2] if self._ours and name.startswith(BATCHES) else name
        path = value.get("path") if isinstance(value, dict) else None
        if self._said.unpacked is None:
            self._said.unpacked = UnpackedImages()
        table = path_stem(self._name).rpartition("/")[2]
        folder = table if self._several else ""
        return self._said.unpacked.add(inside, folder, str(path) if path else "", f"{table}-{number:06}")

    def _boxes_of_row(self, row: Mapping[str, Any], columns: BoxColumns, where: str) -> list[Box]:
        values = [row.get(column) for column in columns.columns]
        label = self._class(row.get(self._label or ""), self._label or "")
        if all(absent(value) for value in values) and not label:
            # An image that shows nothing.
            return []
        listed: list[Any]
        if len(columns.columns) > 1:
            listed = [values]
        elif isinstance(values[0], list) and values[0] and isinstance(values[0][0], list):
            listed = values[0]
        else:
            listed = [values[0]]
        if not label:
            raise SourceError(f"{where}: a box has no class")
        if columns.order is None:
            raise ask_for_order(self._shown, columns.columns[0])
        return [box_of(four_numbers(self._plain(four), where), label, columns.order) for four in listed]

    def _plain(self, four: Any) -> Any:
        """Four fields with points for decimal commas, where the table's delimiter is another."""
        if not self._rows.commas_are_decimal or not isinstance(four, list):
            return four
        plain = [
            one.replace(",", ".") if isinstance(one, str) and _DECIMAL.fullmatch(one) else one for one in four
        ]
        self._commas += plain != four
        return plain

    def _boxes_of_objects(self, value: Any, where: str) -> list[Box]:
        """Objects as Hugging Face has them: lists of boxes and of their classes."""
        if absent(value) or value == []:
            return []
        boxes, classes = objects_of(value, where)
        # Hugging Face documents COCO's order for these folders; nobody does for Parquet.
        order = self._order or ("xywh" if self._name.rpartition("/")[2].startswith("metadata.") else None)
        if order is None and boxes:
            raise ask_for_order(self._shown, f"{self._objects}.bbox")
        named = self._rows.names.get(self._objects or "", [])
        return [
            box_of(four_numbers(four, where), class_of(one, named), order or "xywh")
            for four, one in zip(boxes, classes, strict=True)
        ]

    def _class(self, value: Any, column: str) -> str:
        if isinstance(value, (list, dict)) or (
            isinstance(value, str) and value.lstrip().startswith(("[{", "{"))
        ):
            raise SourceError(
                f"{self._shown}: its column {column!r} holds {str(value)[:60]!r}, which is no class; where these are "
                "regions, export them as JSON or COCO, or as one row a box"
            )
        return "" if absent(value) else class_of(value, self._rows.names.get(column, []))

    def _facts(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        said = {key: row.pop(column, None) if column else None for key, column in self._known.items()}
        split = None if absent(said["split"]) else str(said["split"]).strip().lower()
        side = None if split is None else split_of(split)
        if split is not None and side is None:
            known = ", ".join(SPLIT_NAMES)
            self._said.tell("split known", f"has the split {quoted(split)} ({where})", f"expected {known}")
        return {
            "split": side,
            "group": None if absent(said["group"]) else identity_of(said["group"]),
            "captured_at": self._time(said["captured_at"], where),
            "source": None if absent(said["source"]) else str(said["source"]),
        }

    def _extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return {
            key: None if absent(value) else value
            for key, value in row.items()
            if key not in _AUDITED and not isinstance(value, bytes)
        }

    def _time(self, value: Any, where: str) -> datetime | None:
        if absent(value):
            return None
        try:
            return moment_of(value)
        except ValueError:
            what = f"has captured_at {quoted(value)} ({where})"
            self._said.tell("time readable", what, "write it with the year first: 2026-01-31T12:00:00Z")
            return None


def _column(lowered: Mapping[str, str], names: tuple[str, ...], rows: Rows, shown: str) -> str:
    for name in names:
        if name in lowered:
            return lowered[name]
    if any(is_image_name(column) for column in rows.columns):
        first = ", ".join(rows.columns)[:80]
        raise SourceError(
            f"{shown}: its first line ({first}) is of an image, and names no columns; add one before it, for example "
            "path,label"
        )
    there, more = ", ".join(rows.columns[:_SHOWN])[:200], len(rows.columns) - _SHOWN
    there += f" and {more:,} more" if more > 0 else ""
    raise SourceError(
        f"{shown}: none of its columns ({there}) is called {', '.join(names)}; rename one, or add a first line that "
        "names them"
    )
