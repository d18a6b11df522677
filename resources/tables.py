"""Tables as lists of Parquet fragments that versions share.

On disk, format 1: `fragments/<first 2 hex>/<sha256>.parquet` holds rows, named by the digest of its bytes; a
table is `{"format": 1, "rows": n, "fragments": [{"name": …, "sha256": …, "rows": n}, …]}`. Its digest is the
SHA-256 of that JSON. Fragments are written before the list that names them, and never overwritten.
"""

import hashlib
import io
import json
from typing import Any

import pandas as pd

from resources.artifact_store import ArtifactNotFound, ArtifactStore

FORMAT = 1


def write_table(store: ArtifactStore, table: pd.DataFrame, fragment_by: str | None = None) -> dict[str, Any]:
    """Store a table, one fragment per value of the column `fragment_by`; returns its list, not yet stored."""
    parts = [("all", table)] if fragment_by is None else table.groupby(fragment_by, sort=True)
    fragments = []
    for name, rows in parts:
        content = to_parquet(rows)
        digest = hashlib.sha256(content).hexdigest()
        store.write_once(_fragment_key(digest), content)
        fragments.append({"name": str(name), "sha256": digest, "rows": len(rows)})
    return {"format": FORMAT, "rows": len(table), "fragments": fragments}


def read_table(store: ArtifactStore, listing: dict[str, Any]) -> pd.DataFrame:
    """The rows of a table, fragments in the order of its list.

    Raises `ArtifactNotFound` where one is gone, `ValueError` where one is altered or of another format.
    """
    if listing.get("format") != FORMAT:
        raise ValueError(
            f"a table of format {listing.get('format')} needs a newer VisionOps; this one reads {FORMAT}"
        )
    parts = []
    for fragment in listing["fragments"]:
        content = store.read(_fragment_key(fragment["sha256"]))
        if hashlib.sha256(content).hexdigest() != fragment["sha256"]:
            raise ValueError(
                f"table fragment {_fragment_key(fragment['sha256'])} is altered; materialise it again"
            )
        parts.append(pd.read_parquet(io.BytesIO(content)))
    if not parts:
        raise ArtifactNotFound("the table has no fragments, so not even its columns are known")
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def table_digest(listing: dict[str, Any]) -> str:
    """SHA-256 of a table's list."""
    return hashlib.sha256(json.dumps(listing, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def to_parquet(table: pd.DataFrame) -> bytes:
    """A table as Parquet bytes, without its index."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _fragment_key(digest: str) -> str:
    return f"fragments/{digest[:2]}/{digest}.parquet"
