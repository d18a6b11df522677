"""Where the findings of a batch's audit are: neither a kill nor a retraction parts a batch from what was found in it.

What was refused has them on its ingest branch, what was published in its merge, which the log of `main` keeps. Only a
commit that has a batch whole with its findings says so in its metadata: what a killed import left is told from it.
"""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSNotFound
from resources.lakefs_records import Commit
from visionops_assets.dataset.findings_file import read_findings
from visionops_assets.dataset.publications import BATCH, ERRORS, FINDINGS, publications
from visionops_assets.dataset.versions.layout import findings_path, ingest_branch
from visionops_assets.project import Project

Outcome = Literal["refused", "published", "retracted"]


class FindingsMissing(LookupError):
    """A batch whose findings are not kept; the message says why, and how they can be had."""


@dataclass(frozen=True)
class BatchFindings:
    """All findings of the audit that a batch was refused or published by; `table` has the columns of
    `findings_file.SCHEMA`. `commit` has the images and the annotations too."""

    batch: str
    outcome: Outcome
    commit: Commit
    table: pd.DataFrame


def batch_findings(lakefs: LakeFSResource, project: Project, batch: str) -> BatchFindings:
    """The findings of a batch: of the refused one that waits on its branch, else of the newest that was published.

    Raises `FindingsMissing`, `FindingsUnreadable`, and what lakeFS raises.
    """
    repository = project.repository
    refused = _refused(lakefs, project, batch)
    if refused is not None:
        return BatchFindings(batch, "refused", refused, _read(lakefs, project, batch, refused))
    published = publications(lakefs, project)
    merge = published.newest(batch)
    if merge is None:
        branches = ", ".join(lakefs.branches(repository, "ingest")) or "none"
        raise FindingsMissing(
            f"{published.in_words(batch, f'{repository}/{MAIN}')}; branches of refused ones: {branches}"
        )
    outcome: Outcome = "published" if batch in published.standing else "retracted"
    return BatchFindings(batch, outcome, merge, _read(lakefs, project, batch, merge))


def _refused(lakefs: LakeFSResource, project: Project, batch: str) -> Commit | None:
    branch = ingest_branch(project.repository, project.annotations, batch)
    try:
        facts = (head := lakefs.head(project.repository, branch)).metadata
    except LakeFSNotFound:
        return None
    # Without errors it was published, and killed before its branch was deleted, or before it was merged.
    refused = len(head.parents) == 1 and FINDINGS in facts and facts.get(ERRORS) != "0"
    return head if refused and facts.get(BATCH) == batch else None


def _read(lakefs: LakeFSResource, project: Project, batch: str, commit: Commit) -> pd.DataFrame:
    file = findings_path(batch, project.annotations)
    try:
        return read_findings(lakefs.read(project.repository, commit.id, file), file)
    except LakeFSNotFound as error:
        raise FindingsMissing(
            f"batch {batch} was imported in commit {commit.id[:12]} by a VisionOps that kept no findings: import it "
            f"again with `visionops import {project.project} SOURCE --batch {batch} --findings FILE.csv`"
        ) from error
