"""Tables that assets of production days stored, by day."""

from collections.abc import Mapping
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa

from resources.artifact_store import ArtifactNotFound, ArtifactStore
from visionops_assets.addresses import asset_folder, asset_key
from visionops_assets.common.tables import read_table

# An alarm that has stood longer is found standing all the same: its latest bad days are among these.
LOOK_BACK_DAYS = 60


def stored_day(artifacts: ArtifactStore, project: str, asset: str, day: str) -> pd.DataFrame | None:
    """The table that an asset stored for a day; None where it did not."""
    try:
        return read_table(artifacts, artifacts.read_json(asset_key(project, asset, day)))
    except ArtifactNotFound:
        return None


def stored_dates(artifacts: ArtifactStore, project: str, asset: str) -> list[date]:
    """The days that an asset stored a table for, oldest first."""
    names = artifacts.names(asset_folder(project, asset))
    return [date.fromisoformat(name.removesuffix(".json")) for name in names if name.endswith(".json")]


def typed(table: pd.DataFrame, columns: Mapping[str, str]) -> pa.Table:
    """A table with these columns of these Arrow types, whatever is null in it, or empty."""
    fields = [pa.field(name, pa.type_for_alias(kind)) for name, kind in columns.items()]
    return pa.Table.from_pandas(table, schema=pa.schema(fields), preserve_index=False)


def needed_day(artifacts: ArtifactStore, project: str, asset: str, day: str) -> pd.DataFrame:
    """The same, where it has to be there. Raises `LookupError` naming what to materialise."""
    found = stored_day(artifacts, project, asset, day)
    if found is None:
        raise LookupError(f"{project}/{asset} has no table of {day}: materialise that day of it first")
    return found


class StoredDays:
    """The tables of one asset, each read once; days that are being made are told by `keep`."""

    def __init__(self, artifacts: ArtifactStore, project: str, asset: str) -> None:
        self._where = (artifacts, project, asset)
        self._read: dict[date, pd.DataFrame | None] = {}

    def keep(self, day: date, table: pd.DataFrame) -> None:
        """A day's table is this one, whatever was stored before."""
        self._read[day] = table

    def at(self, day: date) -> pd.DataFrame | None:
        """The table of a day, or None."""
        if day not in self._read:
            self._read[day] = stored_day(*self._where, day.isoformat())
        return self._read[day]

    def until(self, day: date) -> dict[date, pd.DataFrame]:
        """The tables of `day` and of the `LOOK_BACK_DAYS` before it, where there are any, oldest first."""
        found = {}
        for back in range(LOOK_BACK_DAYS, -1, -1):
            each = day - timedelta(days=back)
            table = self.at(each)
            if table is not None:
                found[each] = table
        return found
