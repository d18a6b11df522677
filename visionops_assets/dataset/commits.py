"""Which commits are dataset versions. Light: the sensor asks wherever definitions load."""

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs_records import Commit
from visionops_assets.common import run_tags
from visionops_assets.dataset.publications import BATCH, RETRACTED, of_another_project
from visionops_assets.dataset.versions.layout import BATCHES, batch_of
from visionops_assets.project import Project

LOOKED_AT, NAMED = 1000, 5


def changed_samples(lakefs: LakeFSResource, project: Project, commit: Commit) -> bool:
    """Whether a commit is a dataset version: it changed images or annotations against its first parent, and does not
    say that they are another project's."""
    if not commit.parents or of_another_project(commit, project):
        return False
    return any(lakefs.diff(project.repository, commit.parents[0], commit.id, BATCHES, limit=1))


def batches_of(lakefs: LakeFSResource, project: Project, commit: Commit) -> list[str]:
    """The batches that a commit is about, in words: the one that it says, or takes back ("without week-02"), or those
    among the first changes of one that says none."""
    if RETRACTED in commit.metadata:
        return [f"without {commit.metadata[RETRACTED]}"]
    if BATCH in commit.metadata:
        return [commit.metadata[BATCH]]
    if not commit.parents:
        return []
    changes = lakefs.diff(project.repository, commit.parents[0], commit.id, BATCHES, limit=LOOKED_AT)
    return list(dict.fromkeys(batch_of(change.path) for change in changes))


def tags_of_version(lakefs: LakeFSResource, project: Project, commit: Commit) -> dict[str, str]:
    """What the tags of a run on a dataset version say of its commit."""
    batches = batches_of(lakefs, project, commit)
    return {
        run_tags.COMMIT: commit.id,
        run_tags.WEEK: run_tags.week_of(commit.created_at),
        **({run_tags.BATCH: ", ".join(batches[:NAMED])} if batches else {}),
    }


def newest_commit(lakefs: LakeFSResource, project: Project) -> Commit | None:
    """The commit of the newest dataset version on main; None where nothing was ever imported."""
    log = lakefs.log(project.repository, MAIN)
    return next((commit for commit in log if changed_samples(lakefs, project, commit)), None)
