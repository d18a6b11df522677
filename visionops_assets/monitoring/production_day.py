"""One production day's inference log: read from the repository of production, validated, its late labels joined."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from resources.artifact_store import ArtifactStore
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSNotFound
from resources.model_records import ModelVersion
from visionops_assets.common.findings import findings_table, join_findings
from visionops_assets.common.tables import frame_from_parquet
from visionops_assets.monitoring.inference_log import (
    day_folder,
    empty_log,
    findings_folder,
    labels_folder,
    log_schema,
    production_repository,
)
from visionops_assets.monitoring.spooled import with_types
from visionops_assets.monitoring.stored_days import stored_day
from visionops_assets.monitoring.validation import join_labels, nothing_logged, validate, without_answer
from visionops_assets.project import Project

# A device is missed where it wrote on the last day with a log, if that is not longer ago.
LOOK_BACK_DAYS = 7


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
        raise LookupError(
            f"the rows of {day} are no longer kept, those since {first} are; what was made of older days stays"
        )
    commit = head_of(lakefs, production_repository(project.repository))
    if commit is None:
        found = nothing_logged(empty_log(task))
        return ProductionDay(day, None, empty_log(task), 0, found)
    raw = _contents(lakefs, project, commit, day_folder(project.project, day))
    schema = log_schema(task)
    tables = [schema.empty_table(), *(pq.read_table(pa.BufferReader(content)) for content in raw)]
    rows = pa.concat_tables(with_types(table, schema) for table in tables)
    checked = validate(rows.to_pandas(), task=task, models=models)
    late = _contents(lakefs, project, commit, labels_folder(project.project, day))
    labels = [frame_from_parquet(content) for content in late]
    labelled, label_findings = join_labels(checked.rows, labels, task, project.classes)
    stored = _contents(lakefs, project, commit, findings_folder(project.project, day))
    findings = [
        checked.findings,
        label_findings,
        findings_table([]),
        *(frame_from_parquet(content) for content in stored),
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
    for back in range(1, LOOK_BACK_DAYS + 1):
        earlier = date.fromisoformat(day) - timedelta(days=back)
        rows = stored_log(artifacts, project.project, earlier.isoformat())
        if rows is not None and len(rows):
            return sorted(rows["device"].unique())
    return []


def summary(rows: pd.DataFrame) -> pd.DataFrame:
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


def _contents(lakefs: LakeFSResource, project: Project, commit: str, prefix: str) -> Iterator[bytes]:
    """The bytes of each object under a prefix."""
    repository = production_repository(project.repository)
    paths = [entry.path for entry in lakefs.objects(repository, commit, prefix)]
    return (content for _, content in lakefs.read_many(repository, commit, paths))
