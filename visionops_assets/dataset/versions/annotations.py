"""The annotations of a batch: one Parquet file, one row an image.

Format 1 (`visionops.annotations.version` in the Parquet metadata; a file without it counts as 1):

    path         string      of the image, from the repository's root
    sha256       string      of the image's bytes, 64 hex digits
    phash        string      16 hex digits (`images/phash.py`)
    width height int32       of the upright image, in pixels
    size         int64       of the image in bytes; 0 or absent: not known
    split        string      train, val or holdout
    excluded     bool        takes no part, since it duplicates images of both sides; absent: false
    label        string      classification; or
    boxes        list<struct<x, y, w, h: float32, label: string>>   detection: left, top, width, height in pixels; or,
                             beside neither, what another task that is registered learns from
    group        string?     what must not be split; absent or null: the image is its own group
    captured_at  timestamp[us, UTC]?
    source       string?     where the image came from

Any other column of text, numbers or booleans is kept, and may be declared as a slice.
"""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from resources.error_family import Invalid
from visionops_assets.dataset.dataset_task import Truth, truth_of
from visionops_assets.dataset.versions.layout import batch_of, images_prefix
from visionops_assets.tasks.task_registry import UnknownTask, names, task

FORMAT = 1
SPLITS = ("train", "val", "holdout")

BOX = pa.struct(
    [
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("w", pa.float32()),
        ("h", pa.float32()),
        ("label", pa.string()),
    ]
)
BOXES = pa.list_(BOX)
COLUMNS: dict[str, pa.DataType] = {
    "path": pa.string(),
    "sha256": pa.string(),
    "phash": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "size": pa.int64(),
    "split": pa.string(),
    "excluded": pa.bool_(),
    "group": pa.string(),
    "captured_at": pa.timestamp("us", tz="UTC"),
    "source": pa.string(),
}
NULLABLE = ("group", "captured_at", "source")
_DEFAULTS = {"size": 0, "excluded": False, "group": None, "captured_at": None, "source": None}
_UNIQUE = ("path", "sha256", "phash")
# What the writer holds at once is bounded by these.
_PAGE_BYTES, _GROUP_ROWS = 1 << 15, 1 << 12
_VERSION_KEY = b"visionops.annotations.version"


class AnnotationsError(Invalid):
    """Annotations that cannot be used; the message names file, column and row, and what was expected."""


def write_annotations(table: pa.Table | pd.DataFrame, file: str) -> bytes:
    """The Parquet bytes of annotations, which will lie at `file`. Raises `AnnotationsError`."""
    if isinstance(table, pd.DataFrame):
        try:
            table = pa.Table.from_pandas(table, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise AnnotationsError(
                f"{file}: has a column of values of several types; expected one"
            ) from error
    canonical = check_annotations(table, file)
    buffer = io.BytesIO()
    pq.write_table(
        canonical.replace_schema_metadata({_VERSION_KEY: str(FORMAT).encode()}),
        buffer,
        compression="zstd",
        use_dictionary=_repeating(canonical),
        data_page_size=_PAGE_BYTES,
        row_group_size=_GROUP_ROWS,
    )
    return buffer.getvalue()


def _repeating(table: pa.Table) -> list[str]:
    """The columns whose values may repeat, as Parquet calls them; a dictionary of the others is wasted memory."""
    found = list[str]()
    for field in table.schema:
        if pa.types.is_list(field.type):
            kind = field.type.value_type
            element = f"{field.name}.list.element"
            found += [f"{element}.{one.name}" for one in kind] if pa.types.is_struct(kind) else [element]
        elif field.name not in _UNIQUE:
            found.append(field.name)
    return found


def read_annotations(data: bytes, file: str) -> pa.Table:
    """Annotations with every column of the format, sorted by path. Raises `AnnotationsError`."""
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise AnnotationsError(f"{file}: is not a Parquet file that can be read; is it complete?") from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"1")
    if version != str(FORMAT).encode():
        raise AnnotationsError(
            f"{file}: has the annotations format {version.decode(errors='replace')}; this VisionOps reads {FORMAT}"
        )
    return check_annotations(table, file)


def columns_with(truth: Truth) -> dict[str, pa.DataType]:
    """The columns of annotations that learn from this, in their order."""
    place = [*COLUMNS].index("group")
    items = [*COLUMNS.items()]
    return dict([*items[:place], (truth.column, truth.task.kind), *items[place:]])


def check_annotations(table: pa.Table, file: str) -> pa.Table:
    """Bring a table to the format's columns, types and order. Raises `AnnotationsError`.

    Whether labels are known, and images are there, is for `integrity.py` to say.
    """
    try:
        truth = truth_of(table.column_names)
    except UnknownTask as error:
        known = " or ".join(f"a column `{task(name).truth}`" for name in names())
        raise AnnotationsError(f"{file}: expected {known}, found {table.column_names}") from error
    columns: dict[str, pa.ChunkedArray] = {}
    known_columns = columns_with(truth)
    for name, kind in known_columns.items():
        if name in table.column_names:
            columns[name] = _cast(table, name, kind, file)
        elif name in _DEFAULTS:
            columns[name] = pa.chunked_array([pa.repeat(pa.scalar(_DEFAULTS[name], kind), len(table))])
        else:
            raise AnnotationsError(f"{file}: column {name!r} is missing; found {table.column_names}")
    for name in table.column_names:
        if name not in known_columns:
            columns[name] = _extra(table, name, file)
    canonical = pa.table(columns)
    order = pc.sort_indices(canonical["path"])
    _check_values(canonical, order, file, truth)
    if not _in_order(order):
        canonical = canonical.take(order)
    return canonical.combine_chunks()


def _cast(table: pa.Table, name: str, kind: pa.DataType, file: str) -> pa.ChunkedArray:
    column = table[name]
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(column.type) and column.type.tz is None:
        raise AnnotationsError(f"{file}: column {name!r} has no time zone; give it in UTC")
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise AnnotationsError(
            f"{file}: column {name!r} has the type {column.type}, expected {kind} or what can become it"
        ) from error


def _extra(table: pa.Table, name: str, file: str) -> pa.ChunkedArray:
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    primitive = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
    if not any(check(column.type) for check in primitive):
        raise AnnotationsError(
            f"{file}: column {name!r} has the type {column.type}; a column of one's own holds text, numbers or booleans"
        )
    return column


def _in_order(order: pa.Array) -> bool:
    places = order.to_numpy()
    return bool((places == np.arange(len(places), dtype=places.dtype)).all())


def _check_values(table: pa.Table, order: pa.Array, file: str, truth: Truth) -> None:
    prefix = images_prefix(batch_of(file))
    for name in table.column_names:
        if (name in COLUMNS or name == truth.column) and name not in NULLABLE:
            _refuse(table, name, pc.is_null(table[name]), "is empty", file)
    paths = table["path"]
    inside = pc.and_(
        pc.starts_with(paths, prefix), pc.invert(pc.match_substring_regex(paths, r"(^|/)\.\.?(/|$)"))
    )
    _refuse(table, "path", pc.invert(inside), f"does not lie in {prefix}", file)
    if _repeated(paths, order):
        _refuse(table, "path", pa.array(paths.to_pandas().duplicated()), "stands twice", file)
    hex_64 = pc.match_substring_regex(table["sha256"], "^[0-9a-f]{64}$")
    _refuse(table, "sha256", pc.invert(hex_64), "is not 64 hex digits", file)
    hex_16 = pc.match_substring_regex(table["phash"], "^[0-9a-f]{16}$")
    _refuse(table, "phash", pc.invert(hex_16), "is not 16 hex digits", file)
    for name in ("width", "height"):
        _refuse(table, name, pc.less(table[name], 1), "is not at least 1", file)
    _refuse(table, "size", pc.less(table["size"], 0), "is negative", file)
    known = pc.is_in(table["split"], value_set=pa.array(SPLITS))
    _refuse(table, "split", pc.invert(known), f"is none of {', '.join(SPLITS)}", file)
    fault = truth.task.fault(table[truth.column].combine_chunks())
    if fault is not None:
        _raise(table, truth.column, fault[0], fault[1], file)


def _repeated(paths: pa.ChunkedArray, order: pa.Array) -> bool:
    """Whether a path stands twice; `order` sorts them."""
    ordered = paths if _in_order(order) else paths.take(order)
    return bool(pc.any(pc.equal(ordered[1:], ordered[:-1])).as_py())


def _refuse(table: pa.Table, column: str, wrong: pa.Array | pa.ChunkedArray, why: str, file: str) -> None:
    row = _first(wrong)
    if row is not None:
        value = table[column][row].as_py()
        _raise(table, column, row, why if value is None or value == "" else f"{value!r} {why}", file)


def _first(wrong: pa.Array | pa.ChunkedArray) -> int | None:
    row = pc.index(wrong, True).as_py()
    return None if row < 0 else row


def _raise(table: pa.Table, column: str, row: int, why: str, file: str) -> None:
    raise AnnotationsError(f"{file}: column {column!r}, row {row} ({table['path'][row].as_py()}): {why}")
