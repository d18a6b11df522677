"""What a challenger saw in training, where that is not the dataset version that it is judged on."""

from resources.artifact_store import ArtifactStore
from resources.lakefs import LakeFSResource
from resources.model_records import TAG_COMMIT
from resources.model_registry import ModelRegistry
from visionops_assets.dataset.version import DatasetVersion, named_version
from visionops_assets.project import Project
from visionops_assets.training.challenger import Challenger


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
