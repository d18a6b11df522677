"""Whose a batch is where projects share a repository, and taking a published one back out of main.

An image of a batch belongs to all annotations that are about it, `batches/<batch>/annotations/<name>.parquet`:
whoever imports or retracts the batch for one name changes no image that another name has. Projects of one name
share one dataset, so they need the same classes, and a batch that one of them published is that one's to correct or
retract.

Taken back are its annotations, and the images that nobody else has labelled.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from resources.error_family import Refused
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import Commit, LakeFSConflict
from visionops_assets.common.findings import Finding, findings_table
from visionops_assets.config.project import Neighbours, Project, of_one_dataset
from visionops_assets.dataset.versions.annotations import AnnotationsError, read_annotations
from visionops_assets.dataset.versions.commit_log import (
    ANNOTATIONS,
    PROJECT,
    RETRACTED,
    RETRACTS,
    Publications,
    publications,
)
from visionops_assets.dataset.versions.layout import (
    BATCHES,
    annotations_name,
    annotations_path,
    annotations_prefix,
    findings_path,
    retraction_branch,
)

APART = "apart from other projects"
RETRACTION_ATTEMPTS = 5


@dataclass(frozen=True)
class Claims:
    """The images of a batch that other annotations are about: their SHA-256, and the first name that has them."""

    sha256s: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, path: object) -> bool:
        return path in self.sha256s


def claims_of_others(
    lakefs: LakeFSResource, repository: str, reference: str, batch: str, annotations: str
) -> Claims:
    """What annotations but those called `annotations` are about in a batch.

    Raises `AnnotationsError` for a file that does not say it: then nothing of the batch may be changed.
    """
    sha256s: dict[str, str] = {}
    names: dict[str, str] = {}
    for entry in lakefs.objects(repository, reference, annotations_prefix(batch)):
        name = annotations_name(entry.path)
        if name is None or name == annotations:
            continue
        content = lakefs.read(repository, reference, entry.path)
        try:
            table = pq.read_table(pa.BufferReader(content), columns=["path", "sha256"])
        except (pa.ArrowInvalid, OSError) as error:
            raise AnnotationsError(
                f"{entry.path}: belongs to other annotations of {repository}, and does not say which images it is "
                f"about ({error}); nothing of batch {batch} is changed until it is mended or removed"
            ) from error
        for path, sha256 in zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True):
            sha256s.setdefault(path, sha256)
            names.setdefault(path, name)
    return Claims(sha256s, names)


def check_apart(batch: str, annotations: pa.Table, claims: Claims, neighbours: Neighbours) -> pd.DataFrame:
    """No image of a batch, in its `annotations`, takes the path of another one that other annotations are about."""
    different: dict[str, list[str]] = {}
    rows = zip(annotations["path"].to_pylist(), annotations["sha256"].to_pylist(), strict=True)
    for path, sha256 in rows if claims.sha256s else ():
        if path in claims and claims.sha256s[path] != sha256:
            different.setdefault(claims.names[path], []).append(path)
    return findings_table(
        Finding(
            APART,
            batch,
            f"has other images than {_owner(name, neighbours)}, which has a batch of this name too, at "
            f"{len(paths):,} paths, first {paths[0]}",
            "an image that others have labelled is never replaced; give the batch another name",
        )
        for name, paths in sorted(different.items())
    )


def check_owner(
    project: Project, batch: str, published: Publications, neighbours: Neighbours
) -> pd.DataFrame:
    """A batch is not that of a project that keeps its labels under the same name, nor under other classes."""
    return findings_table(_of_others(project, batch, published, neighbours))


def _of_others(
    project: Project, batch: str, published: Publications, neighbours: Neighbours
) -> Iterator[Finding]:
    place = f"annotations {project.annotations} of repository {project.repository}"
    first = neighbours.get(published.first_owner or "")
    if first is not None and not of_one_dataset(first, project):
        yield Finding(
            APART,
            batch,
            f"would go into the {place}, which are project {first.project}'s: {first.task} of "
            f"{', '.join(first.classes)}",
            f"projects share annotations only with the same task and classes; set `annotations: {project.project}` in "
            "the project file",
        )
    merge = published.newest_standing(batch)
    owner = merge.metadata.get(PROJECT) if merge is not None else None
    if owner in neighbours:
        yield Finding(
            APART,
            batch,
            f"is a batch of project {owner}, which keeps its labels as the {place} too",
            f"correct it with `visionops import {owner} SOURCE --batch {batch}`, or give this batch another name",
        )


def _owner(name: str, neighbours: Neighbours) -> str:
    projects = [each.project for each in neighbours.values() if each and each.annotations == name]
    return f"annotations {name}" + (f" (project {', '.join(projects)})" if projects else "")


class RetractionRefused(Refused, ValueError):
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
    for _ in range(RETRACTION_ATTEMPTS):
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
        f"{repository}/{MAIN} moved {RETRACTION_ATTEMPTS} times while batch {batch} was retracted: run it again"
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
