"""Tables as lists of Parquet fragments that versions share.

On disk, format 1: `fragments/<first 2 hex>/<digest>.parquet` holds rows, named by the digest of their content
(`common/arrow_columns.py`), not of the Parquet bytes; a table is
`{"format": 1, "fragments": [{"source": …, "digest": …, "rows": n}, …]}`, as a manifest is. Fragments are written
before the list that names them, and never overwritten.
"""

import io
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from resources.error_family import Altered
from resources.storage import ArtifactStore
from visionops_assets.common.arrow_columns import table_content_digest

FORMAT = 1


def write_table(store: ArtifactStore, table: pd.DataFrame | pa.Table) -> dict[str, Any]:
    """Store a table's rows as one fragment; returns the list that names it, which the caller stores.

    An Arrow table keeps its types where a column of a DataFrame is all null.
    """
    arrow = table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False)
    content = arrow.replace_schema_metadata(None)
    digest = table_content_digest(content)
    store.write_once(fragment_key(digest), arrow_parquet(content))
    return {"format": FORMAT, "fragments": [{"source": "all", "digest": digest, "rows": len(content)}]}


def read_table(store: ArtifactStore, listing: dict[str, Any]) -> pd.DataFrame:
    """The rows of a table, fragments in the order of its list. A column that a fragment lacks is null there.

    Raises `ArtifactNotFound` where one is gone, `ValueError` where one is altered or of another format.
    """
    if listing.get("format") != FORMAT:
        raise Altered(f"a table of format {listing.get('format')}; this VisionOps reads {FORMAT}")
    parts = []
    for fragment in listing["fragments"]:
        key = fragment_key(fragment["digest"])
        try:
            # Not `read_table`, whose plan for many files costs more than reading a small one.
            part = pq.ParquetFile(pa.BufferReader(store.read(key))).read().replace_schema_metadata(None)
        except (pa.ArrowInvalid, OSError) as error:
            raise store.damaged(key, str(error).partition("\n")[0]) from error
        if table_content_digest(part) != fragment["digest"]:
            raise store.damaged(key, "it does not hold the rows it is named for")
        parts.append(part)
    found: pd.DataFrame = pa.concat_tables(parts, promote_options="permissive").to_pandas()
    return found


def fragment_key(digest: str) -> str:
    """Where the rows with this content digest are stored."""
    return f"fragments/{digest[:2]}/{digest}.parquet"


def to_parquet(table: pd.DataFrame) -> bytes:
    """A table as Parquet bytes, without its index."""
    return arrow_parquet(pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None))


def frame_from_parquet(content: bytes) -> pd.DataFrame:
    """The table that `to_parquet` wrote."""
    found: pd.DataFrame = pq.read_table(pa.BufferReader(content)).to_pandas()
    return found


def arrow_parquet(table: pa.Table) -> bytes:
    """An Arrow table as Parquet bytes, its metadata kept."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
