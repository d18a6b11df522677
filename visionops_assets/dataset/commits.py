"""Which commits are dataset versions. Light: the sensor asks wherever definitions load."""

from resources.lakefs import MAIN, LakeFSResource
from resources.lakefs_records import Commit
from visionops_assets.dataset.layout import BATCHES


def changed_samples(lakefs: LakeFSResource, repository: str, commit: Commit) -> bool:
    """Whether a commit is a dataset version: it changed images or annotations against its first parent."""
    if not commit.parents:
        return False
    return any(lakefs.diff(repository, commit.parents[0], commit.id, BATCHES, limit=1))


def newest_commit(lakefs: LakeFSResource, repository: str) -> Commit | None:
    """The commit of the newest dataset version on main; None where nothing was ever imported."""
    log = lakefs.log(repository, MAIN)
    return next((commit for commit in log if changed_samples(lakefs, repository, commit)), None)
