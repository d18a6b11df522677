"""What the log of main says, by the metadata of its commits: which are dataset versions, and which batches a
project published. Light: the sensor asks wherever definitions load.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import Commit, LakeFSNoRepository, LakeFSNotFound
from resources.nearest import did_you_mean, listed
from visionops_assets.common import run_tags
from visionops_assets.config.project import Neighbours, Project
from visionops_assets.dataset.versions.layout import BATCHES, batch_of

PROJECT = "visionops.project"
# Whose labels a commit changed. A commit without it may be anybody's.
ANNOTATIONS = "visionops.annotations"
BATCH = "visionops.batch"
ERRORS = "visionops.errors"
# The format of the findings that a commit has with its batch.
FINDINGS = "visionops.findings"
# The batch that a commit takes back, and its merges with commas between them.
RETRACTED = "visionops.retracted"
RETRACTS = "visionops.retracts"


@dataclass(frozen=True)
class Publications:
    """The merges that published each batch, newest first: those that stand, and those that were taken back.

    `first_owner` is the project that published first of what stands.
    """

    standing: Mapping[str, list[Commit]]
    retracted: Mapping[str, list[Commit]]
    first_owner: str | None = None

    def newest(self, batch: str) -> Commit | None:
        """The merge that published a batch last, standing or not."""
        found = [*self.standing.get(batch, ()), *self.retracted.get(batch, ())]
        return found[0] if found else None

    def newest_standing(self, batch: str) -> Commit | None:
        """The merge that a batch on `main` is from."""
        return next(iter(self.standing.get(batch, ())), None)

    def in_words(self, batch: str, place: str) -> str:
        """Why a batch is not among the published ones of `place`, and which ones are."""
        there = f"{place} has these published batches: {listed(sorted(self.standing))}"
        if batch in self.retracted:
            return f"batch {batch} was retracted already; {there}"
        known = sorted({*self.standing, *self.retracted})
        return f"batch {batch} was never published{did_you_mean(batch, known, ';')} {there}"


def publications(
    lakefs: LakeFSResource, project: Project, neighbours: Neighbours | None = None
) -> Publications:
    """What was published of a project's annotations. Raises what lakeFS raises."""
    taken_back: set[str] = set()
    standing: dict[str, list[Commit]] = {}
    retracted: dict[str, list[Commit]] = {}
    first: str | None = None
    for commit in lakefs.log(project.repository, MAIN):
        taken_back |= set(commit.metadata.get(RETRACTS, "").split(","))
        batch = commit.metadata.get(BATCH)
        if batch is None or len(commit.parents) < 2 or not _concerns(commit, project, neighbours or {}):
            continue
        side = retracted if commit.id in taken_back else standing
        side.setdefault(batch, []).append(commit)
        first = commit.metadata.get(PROJECT) if side is standing else first
    return Publications(standing, retracted, first)


def of_another_project(commit: Commit, project: Project) -> bool:
    """Whether a commit says that another project made it, about annotations of another name."""
    said = (
        commit.metadata.get(PROJECT, project.project),
        commit.metadata.get(ANNOTATIONS, project.annotations),
    )
    return said[0] != project.project and said[1] != project.annotations


def _concerns(commit: Commit, project: Project, neighbours: Neighbours) -> bool:
    if ANNOTATIONS in commit.metadata:
        return commit.metadata[ANNOTATIONS] == project.annotations
    # Commits of before say only which project made them; a name that no project has any more was this one's.
    owner = commit.metadata.get(PROJECT, project.project)
    neighbour = neighbours.get(owner)
    return owner not in neighbours or (neighbour is not None and neighbour.annotations == project.annotations)


def in_words_if_deleted(error: LakeFSNotFound, project: Project, known: str) -> str:
    """What to say where the repository, or its main, is not there though something of it is `known`, in words."""
    again = f"`visionops import {project.project} SOURCE --batch NAME` makes it anew"
    if not isinstance(error, LakeFSNoRepository):
        return f"{error}, though {known}: {again}"
    return (
        f"lakeFS has no repository {project.repository}, though {known}: it was deleted, or LAKEFS_ENDPOINT names "
        f"another lakeFS; restore it from a backup, or {again}"
    )


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


def is_on_main(lakefs: LakeFSResource, project: Project, commit: str) -> bool:
    """Whether a commit (its id) is among the first parents of main."""
    after = [*lakefs.log(project.repository, MAIN, stop_at=commit)]
    return not after or commit in after[-1].parents[:1]


def newest_commit(lakefs: LakeFSResource, project: Project) -> Commit | None:
    """The commit of the newest dataset version on main; None where nothing was ever imported."""
    log = lakefs.log(project.repository, MAIN)
    return next((commit for commit in log if changed_samples(lakefs, project, commit)), None)
