"""How assets hand tables and records to each other, and to a notebook by `load_asset_value`."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.artifact_store import ArtifactNotFound, ArtifactStore
from resources.nearest import listed
from visionops_assets.addresses import asset_folder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from upath import UPath


_SHOWN = 3


class NotMade(FileNotFoundError):
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
