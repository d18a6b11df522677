"""Pictures and tables as metadata that the UI shows."""

import base64
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from resources.escaping import markdown, one_line, visible

if TYPE_CHECKING:
    import pandas as pd

LARGEST_PICTURE = 50_000
# What a value has to its right on the first page of an asset, where the window is 1440 pixels wide.
LINE = 50


def picture(png: bytes, alt: str = "") -> dg.MarkdownMetadataValue:
    """A PNG inline. Metadata is loaded with every event: raises `ValueError` above 50 kB."""
    if len(png) > LARGEST_PICTURE:
        raise ValueError(
            f"a picture of {len(png)} bytes is too large for metadata, at most {LARGEST_PICTURE}"
        )
    return dg.MetadataValue.md(f"![{markdown(alt)}](data:image/png;base64,{base64.b64encode(png).decode()})")


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
