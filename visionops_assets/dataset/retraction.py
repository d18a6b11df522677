"""Taking a published batch back out of `main`: its annotations, and the images that nobody else has labelled."""

from dataclasses import dataclass

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSConflict
from resources.lakefs_records import Commit
from visionops_assets.dataset.neighbours import claims_of_others
from visionops_assets.dataset.publications import ANNOTATIONS, PROJECT, RETRACTED, RETRACTS, publications
from visionops_assets.dataset.versions.annotations import read_annotations
from visionops_assets.dataset.versions.layout import (
    BATCHES,
    annotations_path,
    findings_path,
    retraction_branch,
)
from visionops_assets.project import Neighbours, Project

ATTEMPTS = 5


class RetractionRefused(ValueError):
    """A batch that cannot be retracted; the message says why and what can be done. `main` is as it was."""


@dataclass(frozen=True)
class Retraction:
    """`reverted` are the merges that were taken back, newest first; `commit` is `main` now. `kept` of its images stay,
    since other annotations are about them."""

    batch: str
    reverted: tuple[str, ...]
    commit: str
    kept: int = 0


def retract(
    lakefs: LakeFSResource,
    project: Project,
    batch: str,
    *,
    who: str,
    why: str,
    neighbours: Neighbours | None = None,
) -> Retraction:
    """Take back every merge that published a batch, also those that a corrected import replaced, in one commit.

    Killed in between, `main` is as it was and it is run again. Raises `RetractionRefused`, `AnnotationsError` for
    another project's annotations that cannot be read, and what lakeFS raises.
    """
    if not why.strip():
        raise RetractionRefused(f"say why batch {batch} is retracted: --why TEXT; it is kept in the commit")
    repository, others = project.repository, neighbours or {}
    branch = retraction_branch(project.annotations, batch)
    for _ in range(ATTEMPTS):
        head = lakefs.head(repository, MAIN).id
        published = publications(lakefs, project, others)
        merges = published.standing.get(batch)
        if merges is None:
            raise RetractionRefused(published.in_words(batch, f"{repository}/{MAIN}"))
        owner = merges[0].metadata.get(PROJECT)
        if owner in others:
            raise RetractionRefused(
                f"batch {batch} was published by project {owner}, which keeps its labels as annotations "
                f"{project.annotations} too: `visionops retract {owner} {batch} --why TEXT` takes it back"
            )
        mine = _images(lakefs, project, batch, merges[0], head)
        claims = claims_of_others(lakefs, repository, head, batch, project.annotations)
        facts = {
            PROJECT: project.project,
            ANNOTATIONS: project.annotations,
            RETRACTED: batch,
            RETRACTS: ",".join(merge.id for merge in merges),
            "visionops.by": who,
            "visionops.why": why,
        }
        lakefs.delete_branch(repository, branch)
        lakefs.create_branch(repository, branch, head)
        own = [annotations_path(batch, project.annotations), findings_path(batch, project.annotations)]
        lakefs.delete_many(repository, branch, own + [path for path in mine if path not in claims])
        lakefs.save(repository, branch, f"Retract batch {batch}: {why}", facts)
        if lakefs.head(repository, MAIN).id != head:
            continue
        try:
            commit = lakefs.merge(repository, branch, MAIN, f"Retract batch {batch}: {why}", facts)
        except LakeFSConflict:
            continue
        lakefs.delete_branch(repository, branch)
        reverted = tuple(merge.id for merge in merges)
        return Retraction(batch, reverted, commit, sum(path in claims for path in mine))
    raise LakeFSConflict(
        f"{repository}/{MAIN} moved {ATTEMPTS} times while batch {batch} was retracted: run it again"
    )


def _images(lakefs: LakeFSResource, project: Project, batch: str, published: Commit, head: str) -> list[str]:
    """The images of a batch. Raises `RetractionRefused` where they or their labels were changed since."""
    repository, file = project.repository, annotations_path(batch, project.annotations)
    mine: list[str] = read_annotations(lakefs.read(repository, published.id, file), file)["path"].to_pylist()
    known = {file, *mine}
    changes = (each.path for each in lakefs.diff(repository, published.id, head, f"{BATCHES}{batch}/"))
    if (changed := next((path for path in changes if path in known), None)) is not None:
        raise RetractionRefused(
            f"batch {batch} was changed on {repository}/{MAIN} after merge {published.id[:12]} (labels corrected in "
            f"place, for example), first {changed}, so taking it back would lose that: delete what is its own of "
            f"{BATCHES}{batch}/ on a branch and merge that"
        )
    return mine
