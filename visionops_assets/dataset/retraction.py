"""Taking a published batch back out of `main`."""

from dataclasses import dataclass

from resources.lakefs import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSConflict
from visionops_assets.dataset.layout import BATCHES
from visionops_assets.dataset.publications import RETRACTS, publications
from visionops_assets.project import Project


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
    published = publications(lakefs, repository)
    if batch not in published.standing:
        raise RetractionRefused(published.in_words(batch, f"{repository}/{MAIN}"))
    merges = published.standing[batch]
    for merge in merges:
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
    return Retraction(batch, tuple(merge.id for merge in merges), lakefs.head(repository, MAIN).id)
