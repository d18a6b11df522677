"""What days of a model are compared with: its own answers on its holdout, which it never saw.

Found by the model's digest, never by date, and kept with the run that made the model, as `monitoring/reference.parquet`
(format 1: columns of the inference log that do not come from a device, with the holdout's `label`). Computed when it is
first asked for: the dataset version and the file that ships never change, so it is the same at any time.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from resources.error_family import NotFound
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.models.records import EVERYWHERE, ModelVersion
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactNotFound, ArtifactStore, Scratch
from visionops_assets.common.tables import frame_from_parquet, to_parquet
from visionops_assets.config.project import Project
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.dataset.versions.dataset_version import (
    DatasetVersion,
    EmptyVersion,
    build_version,
    read_version,
)
from visionops_assets.monitoring.drift import DriftReference
from visionops_assets.monitoring.monitoring_task import monitoring_task
from visionops_assets.monitoring.prediction import (
    Picture,
    RunningModel,
    answer,
    log_rows,
    open_version,
)

REFERENCE_ARTIFACT = "monitoring/reference.parquet"
_BATCH = 256
_COLUMNS_OF_DEVICES = ["timestamp", "device", "device_group"]


class NoReference(NotFound):
    """A model has nothing to compare its days with; the message says why."""


def version_of(versions: Iterable[ModelVersion], model_sha256: str) -> ModelVersion:
    """The newest registered version with these weights. Raises `NoReference`."""
    found = [version for version in versions if version.weights_sha256 == model_sha256]
    if not found:
        raise NoReference(f"no registered version has the weights {model_sha256[:12]}")
    return max(found, key=lambda version: version.version)


def reference_of(
    project: Project,
    version: ModelVersion,
    *,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
    scratch: Scratch,
) -> pd.DataFrame:
    """The reference of a registered version, computed and stored if it is not there yet.

    Raises `NoReference` where the version was trained on no dataset version that is still known, or its holdout is
    empty; and what lakeFS, MLflow and the model's file raise.
    """
    if registry.artifacts.exists(version.run_id, REFERENCE_ARTIFACT):
        return frame_from_parquet(registry.artifacts.read_bytes(version.run_id, REFERENCE_ARTIFACT))
    dataset = dataset_of(project, version, lakefs, artifacts)
    holdout = dataset.split("holdout")
    if holdout.empty:
        raise NoReference(f"dataset version {dataset.partition} has no holdout to compare production with")
    model = open_version(registry, version)
    spec = model.shipped.input
    view, _ = load_samples(lakefs, project.repository, dataset.commit.id, holdout, scratch.samples, spec)

    digests, widths, heights = (holdout[name].tolist() for name in ("sha256", "width", "height"))

    def batches() -> Iterator[list[Picture]]:
        for start in range(0, len(holdout), _BATCH):
            rows = range(start, min(start + _BATCH, len(holdout)))
            yield [
                Picture("", b"", digests[row], (int(widths[row]), int(heights[row])), pixels)
                for row, pixels in zip(rows, view.gather(np.array(rows)), strict=True)
            ]

    found = reference_rows(model, batches(), labels_of(holdout, project.task))
    registry.artifacts.put_bytes(version.run_id, REFERENCE_ARTIFACT, to_parquet(found))
    return found


def reference_rows(model: RunningModel, batches: Iterable[list[Picture]], labels: pd.Series) -> pd.DataFrame:
    """What a model answers of its holdout, as rows of the log, by the code that answers in production."""
    never = datetime.fromtimestamp(0, UTC)
    rows = [
        row
        for batch in batches
        for row in log_rows(
            batch, answer(model, batch), device="", group=EVERYWHERE, times=[never] * len(batch)
        )
    ]
    return pd.DataFrame(rows).drop(columns=_COLUMNS_OF_DEVICES).assign(label=labels.to_numpy())


def labels_of(holdout: pd.DataFrame, task: str) -> pd.Series:
    """The labels of the manifest's rows as the log has them: a class, or a list of boxes with their `class`."""
    return monitoring_task(task).labels(holdout)


def dataset_of(
    project: Project, version: ModelVersion, lakefs: LakeFSResource, artifacts: ArtifactStore
) -> DatasetVersion:
    """The dataset version that a registered version was trained on. Raises `NoReference` where it is not known."""
    if not version.partition:
        raise NoReference(f"version {version.version} names no dataset version, so it has no holdout")
    try:
        return read_version(lakefs, artifacts, project, version.partition)
    except ArtifactNotFound:
        # An experiment may have been trained on a version that no run of Dagster ever looked at.
        try:
            return build_version(lakefs, artifacts, project, version.partition)
        except (EmptyVersion, LakeFSNotFound) as error:
            raise NoReference(
                f"the samples of {version.partition}, on which version {version.version} was trained, are gone: {error}"
            ) from error


class References:
    """The references of a project's models, each read once."""

    def __init__(
        self,
        project: Project,
        *,
        lakefs: LakeFSResource,
        registry: ModelRegistry,
        artifacts: ArtifactStore,
        scratch: Scratch,
    ) -> None:
        self._project = project
        self._services: dict[str, Any] = {
            "lakefs": lakefs,
            "registry": registry,
            "artifacts": artifacts,
            "scratch": scratch,
        }
        self._versions = registry.models.versions(project.project)
        self._found: dict[str, DriftReference] = {}

    def version(self, model_sha256: str) -> ModelVersion:
        """The newest registered version with these weights. Raises `NoReference`."""
        return version_of(self._versions, model_sha256)

    def of(self, model_sha256: str) -> DriftReference:
        """What days of a model are compared with. Raises what `reference_of` raises."""
        if model_sha256 not in self._found:
            rows = reference_of(self._project, self.version(model_sha256), **self._services)
            self._found[model_sha256] = DriftReference(rows, self._project.task, self._project.drift)
        return self._found[model_sha256]
