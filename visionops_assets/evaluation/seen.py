"""What a model saw in training: what its run recorded, and the dataset version that it was trained on."""

from json import loads

from resources.artifact_store import ArtifactStore
from resources.lakefs.client import LakeFSResource
from resources.model_errors import ArtifactMissing
from resources.model_records import PROVENANCE_ARTIFACT, TAG_COMMIT
from resources.models.registry import ModelRegistry
from visionops_assets.dataset.versions.dataset_version import DatasetVersion, named_version
from visionops_assets.dataset.versions.manifest import Manifest
from visionops_assets.project import Project
from visionops_assets.registry import Registry
from visionops_assets.training.challenger import MANIFEST_ARTIFACT, Challenger
from visionops_assets.training.provenance import Provenance


class DataGone(LookupError):
    """The data of a challenger is not what its run recorded, so nobody can tell what it saw."""


def version_trained_on(
    project: Project,
    version: DatasetVersion,
    challenger: Challenger,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
) -> DatasetVersion:
    """The dataset version that a challenger was trained on: `version` itself, or that of its run.

    Raises `DataGone`, and what lakeFS and MLflow raise.
    """
    if challenger.manifest_digest == version.manifest.digest:
        return version
    commit = registry.runs.get(challenger.run_id).tags[TAG_COMMIT]
    found = named_version(lakefs, artifacts, project, commit)
    if found.manifest.digest != challenger.manifest_digest:
        raise DataGone(
            f"run {challenger.run_id} was trained on manifest {challenger.manifest_digest[:12]}, commit "
            f"{commit[:12]} of {project.repository} gives {found.manifest.digest[:12]} to {project.annotations}: "
            "train it again"
        )
    return found


def recorded_provenance(registry: Registry, run_id: str) -> Provenance | None:
    """How a run made its model; None where it does not say."""
    found = _read(registry, run_id, PROVENANCE_ARTIFACT)
    return None if found is None else Provenance.from_json(found.decode())


def recorded_manifest(registry: Registry, run_id: str) -> Manifest | None:
    """What a run trained on; None where it does not say."""
    found = _read(registry, run_id, MANIFEST_ARTIFACT)
    return None if found is None else Manifest.from_json(loads(found))


def _read(registry: Registry, run_id: str, path: str) -> bytes | None:
    try:
        return registry.artifacts.read_bytes(run_id, path)
    except ArtifactMissing:
        return None
