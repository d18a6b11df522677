"""One production day: its inference log, its features, and the tables that assets stored of it and of those before.

The log is read from the repository of production, validated, its late labels joined. The features are what drift
looks at, by image and time: the table a feature store serves.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from resources.error_family import Altered, NotFound
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.models.records import ModelVersion
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.common.findings import findings_table, join_findings
from visionops_assets.common.keys import asset_folder, asset_key
from visionops_assets.common.tables import frame_from_parquet, read_table
from visionops_assets.config.project import Project
from visionops_assets.monitoring.inference_log import (
    day_folder,
    empty_log,
    findings_folder,
    labels_folder,
    log_schema,
    production_repository,
)
from visionops_assets.monitoring.monitoring_task import monitoring_task
from visionops_assets.monitoring.signals import STATISTICS, numeric_signals, watched_columns
from visionops_assets.monitoring.spool_files import with_types
from visionops_assets.monitoring.validation import join_labels, nothing_logged, validate, without_answer

Table = TypeVar("Table")

# A device is missed where it wrote on the last day with a log, if that is not longer ago.
DEVICES_LOOK_BACK_DAYS = 7
FEATURE_KEYS = ("image_sha256", "timestamp", "device", "device_group", "model_sha256")
# An alarm that has stood longer is found standing all the same: its latest bad days are among these.
LOOK_BACK_DAYS = 60


@dataclass(frozen=True)
class ProductionDay:
    """A day's log at a commit of the repository of production, which is None where nothing was collected yet.

    `rows` has the columns of `log_schema`, one row a prediction, by time; `findings` say what was left out and why.
    """

    day: str
    commit: str | None
    rows: pd.DataFrame
    quarantined: int
    findings: pd.DataFrame

    def table(self, task: str) -> pa.Table:
        """The rows with the types of the log, whatever is null in them."""
        return pa.Table.from_pandas(self.rows, schema=log_schema(task), preserve_index=False)


def read_production_day(
    project: Project,
    day: str,
    *,
    lakefs: LakeFSResource,
    artifacts: ArtifactStore,
    models: Mapping[str, str],
    today: date,
) -> ProductionDay:
    """Read what was committed for a day. `models` is that of `known_models`.

    Raises `LookupError` for a day whose rows are no longer kept, and what lakeFS raises.
    """
    task = project.task
    if date.fromisoformat(day) < (first := project.production.first_kept(today)):
        raise NotFound(
            f"the rows of {day} are no longer kept, those since {first} are; what was made of older days stays"
        )
    commit = head_of(lakefs, production_repository(project.repository))
    if commit is None:
        found = nothing_logged(empty_log(task))
        return ProductionDay(day, None, empty_log(task), 0, found)
    schema = log_schema(task)

    def of_log(content: bytes) -> pa.Table:
        return with_types(pq.read_table(pa.BufferReader(content)), schema)

    raw = _tables_under(lakefs, project, commit, day_folder(project.project, day), of_log)
    rows = pa.concat_tables([with_types(schema.empty_table(), schema), *raw])
    checked = validate(rows.to_pandas(), task=task, models=models)
    late = labels_folder(project.project, day)
    labels = list(_tables_under(lakefs, project, commit, late, frame_from_parquet))
    labelled, label_findings = join_labels(checked.rows, labels, task, project.classes)
    stored = findings_folder(project.project, day)
    findings = [
        checked.findings,
        label_findings,
        findings_table([]),
        *_tables_under(lakefs, project, commit, stored, frame_from_parquet),
        nothing_logged(labelled),
        without_answer(devices_before(project, day, artifacts), labelled, date.fromisoformat(day), today),
    ]
    return ProductionDay(day, commit, labelled, len(checked.quarantined), join_findings(findings))


def stored_log(artifacts: ArtifactStore, project: str, day: str) -> pd.DataFrame | None:
    """The log that the asset `inference_log` stored for a day; None where it did not."""
    return stored_day(artifacts, project, "inference_log", day)


def known_models(versions: list[ModelVersion]) -> dict[str, str]:
    """The identity of each registered model, by that identity and by the digest of its ONNX file."""
    found = {version.onnx_sha256: version.weights_sha256 for version in versions if version.onnx_sha256}
    return {**found, **{version.weights_sha256: version.weights_sha256 for version in versions}}


def devices_before(project: Project, day: str, artifacts: ArtifactStore) -> list[str]:
    """The devices of the last day before `day` that has a stored log with rows."""
    for back in range(1, DEVICES_LOOK_BACK_DAYS + 1):
        earlier = date.fromisoformat(day) - timedelta(days=back)
        rows = stored_log(artifacts, project.project, earlier.isoformat())
        if rows is not None and len(rows):
            return sorted(rows["device"].unique())
    return []


def summary_of_log(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a (model, device group): how many rows, devices, captures and labels, and the mean confidence."""
    groups = rows.groupby(["model_sha256", "device_group"], sort=True)
    return groups.agg(
        rows=("timestamp", "size"),
        devices=("device", "nunique"),
        captures=("capture", "count"),
        labels=("label", "count"),
        confidence=("confidence", "mean"),
    ).reset_index()


def head_of(lakefs: LakeFSResource, repository: str) -> str | None:
    """The newest commit of a repository's `main`; None where there is no such repository."""
    try:
        return lakefs.head(repository, MAIN).id
    except LakeFSNotFound:
        return None


def _tables_under(
    lakefs: LakeFSResource, project: Project, commit: str, prefix: str, read: Callable[[bytes], Table]
) -> Iterator[Table]:
    """The table of each object under a prefix. Raises `Altered`, naming one that the collector did not write."""
    repository = production_repository(project.repository)
    paths = [entry.path for entry in lakefs.objects(repository, commit, prefix)]
    for path, content in lakefs.read_many(repository, commit, paths):
        try:
            yield read(content)
        except (pa.ArrowException, KeyError, ValueError) as error:
            said = " ".join(str(error).split())
            raise Altered(
                f"{path} of {repository} is no file of the log ({said}): somebody committed it; delete it in lakeFS, "
                f"then `visionops tick {project.project} --again`"
            ) from error


def features_of(log: pd.DataFrame, task: str) -> pd.DataFrame:
    """One row a row of the log: its keys, image statistics, embedding, what the model said, and the watched numbers.

    In detection the boxes stay beside the numbers made of them. Infinite numbers are missing.
    """
    answers = ["prediction", "confidence", *monitoring_task(task).beside]
    kept = log[[*FEATURE_KEYS, *answers, "embedding"]].reset_index(drop=True)
    watched = watched_columns(log, task)
    own = [name for name in numeric_signals(task) if name not in kept.columns]
    return pd.concat([kept, watched[own]], axis=1)


def stored_features(features: pd.DataFrame, task: str) -> pa.Table:
    """The same with the types of the log, whatever is null in it."""
    log = log_schema(task)
    fields = [
        log.field(name) if name in log.names and name not in STATISTICS else pa.field(name, pa.float64())
        for name in features.columns
    ]
    return pa.Table.from_pandas(features, schema=pa.schema(fields), preserve_index=False)


def described_features(features: pd.DataFrame) -> pd.DataFrame:
    """Mean, deviation and missing share of each number, one row a model, device group and number."""
    numbers = list(features.select_dtypes("number").columns)
    rows = [
        {
            "model": str(model)[:12],
            "device_group": group,
            "number": name,
            "mean": round(float(part[name].mean()), 4),
            "deviation": round(float(part[name].std(ddof=0)), 4),
            "missing": round(float(part[name].isna().mean()), 4),
        }
        for (model, group), part in features.groupby(["model_sha256", "device_group"], sort=True)
        for name in numbers
    ]
    return pd.DataFrame(rows, columns=["model", "device_group", "number", "mean", "deviation", "missing"])


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


def typed_table(table: pd.DataFrame, columns: Mapping[str, str]) -> pa.Table:
    """A table with these columns of these Arrow types, whatever is null in it, or empty."""
    fields = [pa.field(name, pa.type_for_alias(kind)) for name, kind in columns.items()]
    return pa.Table.from_pandas(table, schema=pa.schema(fields), preserve_index=False)


def needed_day(artifacts: ArtifactStore, project: str, asset: str, day: str) -> pd.DataFrame:
    """The same, where it has to be there. Raises `LookupError` naming what to materialise."""
    found = stored_day(artifacts, project, asset, day)
    if found is None:
        raise NotFound(f"{project}/{asset} has no table of {day}: materialise that day of it first")
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
