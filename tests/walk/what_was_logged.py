"""The rows of production, each by its identity: those in the spool, those committed, those that days' tables count."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.storage import ArtifactStore, Spool
from visionops_assets.common.keys import asset_folder
from visionops_assets.monitoring.inference_log import IDENTITY
from visionops_assets.monitoring.production_day import stored_day

Row = tuple[Any, ...]


def identity(row: dict[str, Any]) -> Row:
    """What makes a row the one it is."""
    return tuple(row[name] for name in IDENTITY)


def _rows(content: bytes) -> set[Row]:
    table = pq.read_table(pa.BufferReader(content), columns=list(IDENTITY))
    return {identity(each) for each in table.to_pylist()}


def spooled_rows(spool: Spool, project: str = "shapes") -> set[Row]:
    """Those that wait for the collector."""
    contents = spool.read_each(project, spool.files(project))
    return {row for _, content in contents for row in _rows(content)}


def committed_rows(lakefs: LakeFSResource, project: str = "shapes") -> set[Row]:
    """Those of all committed files."""
    repository, folder = "shapes-production", f"project={project}/dt="
    try:
        paths = [entry.path for entry in lakefs.objects(repository, f"{MAIN}@", folder)]
    except LakeFSNotFound:
        return set()
    contents = lakefs.read_many(repository, f"{MAIN}@", paths)
    return {row for _, content in contents for row in _rows(content)}


def counted_rows(store: ArtifactStore, project: str = "shapes") -> list[Row]:
    """Those of the tables of all days, one for each time that they are counted."""
    found: list[Row] = []
    for day in store.names(asset_folder(project, "inference_log")):
        table = stored_day(store, project, "inference_log", day.removesuffix(".json"))
        if table is not None:
            found += table[list(IDENTITY)].itertuples(index=False, name=None)
    return found
