"""What lakeFS and the spool say: how fresh the data is, and what waits to be committed."""

from collections.abc import Iterator

from resources.lakefs.client import LakeFSResource
from resources.lakefs_errors import LakeFSNotFound
from resources.spool import Spool
from visionops.exporter import families
from visionops.exporter.families import Family, Sample
from visionops_assets.monitoring.inference_log import production_repository
from visionops_assets.project import Project


def commit_samples(project: Project, lakefs: LakeFSResource) -> Iterator[Sample]:
    """When the project's data, and its production, got their newest commits. Raises `LakeFSError`."""
    yield from _newest(families.DATA_COMMIT, project, lakefs, project.repository)
    yield from _newest(families.PRODUCTION_COMMIT, project, lakefs, production_repository(project.repository))


def spool_samples(project: Project, spool: Spool) -> Iterator[Sample]:
    """How many files wait. Raises OSError."""
    yield families.SPOOLED(len(spool.files(project.project)), project.project)


def _newest(family: Family, project: Project, lakefs: LakeFSResource, repository: str) -> Iterator[Sample]:
    try:
        yield family(lakefs.head(repository).created_at.timestamp(), project.project)
    except LakeFSNotFound:
        # Nothing was imported, or nothing logged, yet.
        return
