"""Which commits are dataset versions. Light: the sensor asks wherever definitions load."""

from resources.lakefs import MAIN, LakeFSResource
from resources.lakefs_records import Commit
from visionops_assets.dataset.layout import BATCHES
from visionops_assets.dataset.publications import of_another_project
from visionops_assets.project import Project


def changed_samples(lakefs: LakeFSResource, project: Project, commit: Commit) -> bool:
    """Whether a commit is a dataset version: it changed images or annotations against its first parent, and does not
    say that they are another project's."""
    if not commit.parents or of_another_project(commit, project):
        return False
    return any(lakefs.diff(project.repository, commit.parents[0], commit.id, BATCHES, limit=1))


def newest_commit(lakefs: LakeFSResource, project: Project) -> Commit | None:
    """The commit of the newest dataset version on main; None where nothing was ever imported."""
    log = lakefs.log(project.repository, MAIN)
    return next((commit for commit in log if changed_samples(lakefs, project, commit)), None)
