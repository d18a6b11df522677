"""What assets hand on: tables and records to each other and to a notebook (`load_asset_value`), pictures and tables
as metadata to the UI.
"""

import base64
import textwrap
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.error_family import Invalid, NotFound
from resources.escaping import markdown, one_line, visible
from resources.nearest import listed
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.common.keys import asset_folder
from visionops_assets.pages.page import Bullets, Words, markdown_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from upath import UPath


_SHOWN = 3
LARGEST_PICTURE = 50_000
# What a value has to its right on the first page of an asset, where the window is 1440 pixels wide.
LINE = 50


class NotMade(NotFound, FileNotFoundError):
    """An asset has no value yet; the message names the step that makes it."""


def _keys(names: list[str]) -> list[str]:
    """Partition keys by the names of their files, oldest first."""
    return sorted(name.removesuffix(_Addresses.extension) for name in names)


class _Addresses(dg.UPathIOManager):
    """What lies under a partition is the latest: an address that names content stored once."""

    extension = ".json"

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(base_path=store.path("assets"))
        self._store = store

    def _key(self, path: "UPath") -> str:
        return path.relative_to(self._store.path()).as_posix()

    def _content(self, path: "UPath") -> Any:
        try:
            return self._store.read_json(self._key(path))
        except ArtifactNotFound as error:
            raise NotMade(self._why_missing(path)) from error

    def _why_missing(self, path: "UPath") -> str:
        """What is missing under an address, which step makes it, and what is there."""
        *_, project, asset, partition = ("", "", *self._key(path).removesuffix(self.extension).split("/"))
        folder = self._store.names(asset_folder(project, asset))
        if not folder and (made := self._store.names(asset_folder(asset, partition))):
            # `assets/<project>/<asset>.json`: what has partitions was asked for without one.
            newest = ", ".join(_keys(made)[-_SHOWN:])
            return f"{asset}/{partition} has a value for each of its partitions: give partition_key, such as {newest}"
        return (
            f"{project}/{asset} has nothing stored for {partition}: the step {asset} makes it. "
            f"`visionops tick {project}` runs what is due; any other partition is made by materialising "
            f"{project}/{asset} for it in Dagster. Stored are: {listed(_keys(folder))}"
        )


class _Tables(_Addresses):
    def dump_to_path(
        self, context: dg.OutputContext, obj: "pd.DataFrame | pa.Table | dict[str, Any]", path: "UPath"
    ) -> None:
        from visionops_assets.common.tables import write_table

        listing = obj if isinstance(obj, dict) else write_table(self._store, obj)
        self._store.write_json(self._key(path), listing)

    def load_from_path(self, context: dg.InputContext, path: "UPath") -> "pd.DataFrame":
        from visionops_assets.common.tables import read_table

        listing = self._content(path)
        try:
            return read_table(self._store, listing)
        except ArtifactNotFound as error:
            address = self._key(path).removesuffix(self.extension).removeprefix("assets/")
            # No `NotMade`, which Dagster may be told to pass over: this table was made, and is damaged.
            raise ArtifactNotFound(
                f"{address}: a part of the table is gone ({error}); the step {address.split('/')[1]} makes it again"
            ) from error


class _Records(_Addresses):
    def dump_to_path(self, context: dg.OutputContext, obj: dict[str, Any], path: "UPath") -> None:
        self._store.write_json(self._key(path), obj)

    def load_from_path(self, context: dg.InputContext, path: "UPath") -> dict[str, Any]:
        found: dict[str, Any] = self._content(path)
        return found


class _OpenedLate(dg.IOManager):
    """An IO manager on a store, whose address is opened when something is stored or loaded: the libraries that open one
    stay out of definition-load time."""

    _kind: type[_Addresses]

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    @cached_property
    def _opened(self) -> _Addresses:
        return self._kind(self._store)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store what a step returned under its asset's address."""
        self._opened.handle_output(context, obj)

    def load_input(self, context: dg.InputContext) -> Any:
        """What lies under an asset's address. Raises `NotMade` and `ArtifactNotFound`."""
        return self._opened.load_input(context)


class TableIOManager(_OpenedLate):
    """Tables: given as a DataFrame, an Arrow table or a list of fragments stored already, loaded as a DataFrame."""

    _kind = _Tables


class RecordIOManager(_OpenedLate):
    """Small JSON records, such as the ids of what a training made."""

    _kind = _Records


def picture(png: bytes, alt: str = "") -> dg.MarkdownMetadataValue:
    """A PNG inline. Metadata is loaded with every event: raises `ValueError` above 50 kB."""
    if len(png) > LARGEST_PICTURE:
        raise Invalid(f"a picture of {len(png)} bytes is too large for metadata, at most {LARGEST_PICTURE}")
    return dg.MetadataValue.md(f"![{markdown(alt)}](data:image/png;base64,{base64.b64encode(png).decode()})")


def bullets(*items: Words) -> dg.MarkdownMetadataValue:
    """A line each."""
    return dg.MetadataValue.md(markdown_of(Bullets(items)))


def table(rows: "pd.DataFrame", columns: Sequence[str] | None = None) -> dg.TableMetadataValue:
    """A small table; numpy scalars become Python's, absent values empty."""
    shown = rows if columns is None else rows[list(columns)]
    records = [
        dg.TableRecord({str(name): _plain(value) for name, value in row.items()})
        for row in shown.to_dict("records")
    ]
    schema = dg.TableSchema(columns=[dg.TableColumn(str(name), _kind(shown[name])) for name in shown.columns])
    return dg.MetadataValue.table(records, schema=schema)


def text_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> dg.TableMetadataValue:
    """Rows of text under column names; every row has as many cells as there are columns."""
    return dg.MetadataValue.table(
        [dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns]),
    )


def lines(name: str, text: str) -> dg.TableMetadataValue:
    """A sentence in lines that are seen without scrolling: the UI makes a text as wide as the widest link or table
    beside it, and cuts it off."""
    wrapped = textwrap.wrap(one_line(" ".join(text.split())), LINE, break_on_hyphens=False)
    return text_table([name], ([part] for part in wrapped))


def _plain(value: object) -> str | int | float | bool:
    import pandas as pd

    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return ""
    if hasattr(value, "item"):
        return _plain(value.item())
    return value if isinstance(value, int | float | bool) else visible(str(value))


def _kind(column: "pd.Series") -> str:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        return "bool"
    if pd.api.types.is_integer_dtype(column):
        return "int"
    return "float" if pd.api.types.is_float_dtype(column) else "string"
