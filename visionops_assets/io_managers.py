"""How assets hand tables and records to each other, and to a notebook by `load_asset_value`."""

import json
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.artifact_store import ArtifactStore

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from upath import UPath


class _Addresses(dg.UPathIOManager):
    """What lies under a partition is the latest: an address that names content stored once."""

    extension = ".json"

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(base_path=store.path("assets"))
        self._store = store

    def _key(self, path: "UPath") -> str:
        return path.relative_to(self._store.path()).as_posix()

    def _content(self, path: "UPath") -> Any:
        return json.loads(path.read_bytes())


class _Tables(_Addresses):
    def dump_to_path(
        self, context: dg.OutputContext, obj: "pd.DataFrame | pa.Table | dict[str, Any]", path: "UPath"
    ) -> None:
        from visionops_assets.tables import write_table

        listing = obj if isinstance(obj, dict) else write_table(self._store, obj)
        self._store.write_json(self._key(path), listing)

    def load_from_path(self, context: dg.InputContext, path: "UPath") -> "pd.DataFrame":
        from visionops_assets.tables import read_table

        return read_table(self._store, self._content(path))


class _Records(_Addresses):
    def dump_to_path(self, context: dg.OutputContext, obj: dict[str, Any], path: "UPath") -> None:
        self._store.write_json(self._key(path), obj)

    def load_from_path(self, context: dg.InputContext, path: "UPath") -> dict[str, Any]:
        return self._content(path)


class TableIOManager(dg.ConfigurableIOManagerFactory):
    """Tables: given as a DataFrame, an Arrow table or a list of fragments stored already, loaded as a DataFrame."""

    store: dg.ResourceDependency[ArtifactStore]

    def create_io_manager(self, context: dg.InitResourceContext) -> dg.UPathIOManager:
        """The IO manager on this store."""
        return _Tables(self.store)


class RecordIOManager(dg.ConfigurableIOManagerFactory):
    """Small JSON records, such as the ids of what a training made."""

    store: dg.ResourceDependency[ArtifactStore]

    def create_io_manager(self, context: dg.InitResourceContext) -> dg.UPathIOManager:
        """The IO manager on this store."""
        return _Records(self.store)
