"""Taking a published batch back out of `main`."""

from dataclasses import dataclass

from resources.lakefs import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSConflict
from resources.lakefs_records import Commit
from visionops_assets.dataset.layout import BATCHES
from visionops_assets.project import Project

BATCH = "visionops.batch"
RETRACTS = "visionops.retracts"


class RetractionRefused(ValueError):
    """A batch that cannot be retracted; the message says why and what can be done. `main` is as it was."""


@dataclass(frozen=True)
class Retraction:
    """`reverted` are the merges that were taken back, newest first; `commit` is `main` now."""

    batch: str
    reverted: tuple[str, ...]
    commit: str


def retract(lakefs: LakeFSResource, project: Project, batch: str, *, who: str, why: str) -> Retraction:
    """Revert every merge that published a batch, newest first: also those that a corrected import replaced.

    Killed in between, it is run again and takes back the rest. Raises `RetractionRefused`, and what lakeFS raises.
    """
    if not why.strip():
        raise RetractionRefused(f"say why batch {batch} is retracted: --why TEXT; it is kept in the commit")
    repository = project.repository
    merges, others = published_merges(lakefs, repository)
    if batch not in merges:
        there = ", ".join(sorted(merges)[:10]) or "none"
        known = "was retracted already" if batch in others else "was never published"
        raise RetractionRefused(
            f"batch {batch} {known}: {repository}/{MAIN} has these published batches: {there}"
        )
    for merge in merges[batch]:
        try:
            lakefs.revert(
                repository,
                MAIN,
                merge.id,
                parent_number=1,
                message=f"Retract batch {batch}: {why}",
                metadata={
                    "visionops.project": project.project,
                    "visionops.retracted": batch,
                    RETRACTS: merge.id,
                    "visionops.by": who,
                    "visionops.why": why,
                },
            )
        except LakeFSConflict as error:
            raise RetractionRefused(
                f"batch {batch} was changed on {repository}/{MAIN} after merge {merge.id[:12]} (labels corrected in "
                f"place, for example), so the merge cannot be reverted: delete {BATCHES}{batch}/ on a branch and merge "
                f"that ({error})"
            ) from error
    return Retraction(batch, tuple(merge.id for merge in merges[batch]), lakefs.head(repository, MAIN).id)


def published_merges(lakefs: LakeFSResource, repository: str) -> tuple[dict[str, list[Commit]], set[str]]:
    """The merges on `main` that published each batch and stand, newest first; and every batch that ever was."""
    taken_back: set[str] = set()
    standing: dict[str, list[Commit]] = {}
    ever: set[str] = set()
    for commit in lakefs.log(repository, MAIN):
        taken_back |= {commit.metadata[RETRACTS]} if RETRACTS in commit.metadata else set()
        batch = commit.metadata.get(BATCH)
        if batch is None or len(commit.parents) < 2:
            continue
        ever.add(batch)
        if commit.id not in taken_back:
            standing.setdefault(batch, []).append(commit)
    return standing, ever
