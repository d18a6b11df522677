"""The findings of a batch's audit as a file: all of them, committed with the batch itself, and where they are.

`findings/<batch>/<name>.parquet`, one row a finding, errors first; a batch without findings has a file without
rows. Format 1 (`visionops.findings.version` in the Parquet metadata):

    check severity image what why   string     `findings.Finding`; image is a path from the repository's root
    label                           string?    what the image is labelled; in detection its boxes by class,
counted
    suspected                       string?    the label that is suspected instead
    confidence                      double?    how sure the champion is of it
    box                             struct<x, y, w, h: double>?   where, in pixels of the upright image
    other                           string?    the path of the image that it is like

Neither a kill nor a retraction parts a batch from what was found in it. What was refused has them on its ingest
branch, what was published in its merge, which the log of `main` keeps. Only a commit that has a batch whole with
its findings says so in its metadata: what a killed import left is told from it.
"""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from resources.error_family import Altered, NotFound
from resources.escaping import cell, storable
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import Commit, LakeFSNotFound
from visionops_assets.common.arrow_columns import TextColumn
from visionops_assets.config.project import Project
from visionops_assets.dataset.dataset_task import OwnTruth
from visionops_assets.dataset.importing.image_columns import Images
from visionops_assets.dataset.importing.image_source import SourceImage
from visionops_assets.dataset.versions.commit_log import BATCH, ERRORS, FINDINGS, publications
from visionops_assets.dataset.versions.layout import findings_path, images_prefix, ingest_branch

FINDINGS_FORMAT = 1
_VERSION_KEY = b"visionops.findings.version"
_SIDES = pa.struct([(side, pa.float64()) for side in "xywh"])
SCHEMA = pa.schema(
    [
        *(
            (name, pa.string())
            for name in ("check", "severity", "image", "what", "why", "label", "suspected")
        ),
        ("confidence", pa.float64()),
        ("box", _SIDES),
        ("other", pa.string()),
    ]
)
Outcome = Literal["refused", "published", "retracted"]


class FindingsUnreadable(Altered):
    """A findings file that is none, or of another format."""


def write_findings(findings: pd.DataFrame) -> bytes:
    """The Parquet bytes of findings, with their labels where `with_labels` gave them."""
    known = with_all_columns(findings)
    columns = {
        name: pa.array(known[name].tolist(), kind)
        for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)
    }
    buffer = io.BytesIO()
    table = pa.table(columns, SCHEMA).replace_schema_metadata({_VERSION_KEY: str(FINDINGS_FORMAT).encode()})
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def with_all_columns(findings: pd.DataFrame) -> pd.DataFrame:
    """Findings with the columns of `SCHEMA`; None where nothing is known, and text that any encoding can hold."""
    columns = {
        name: [_storable(value) for value in findings[name]] if name in findings else [None] * len(findings)
        for name in SCHEMA.names
    }
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def findings_for_spreadsheets(findings: pd.DataFrame) -> pd.DataFrame:
    """Findings for people, whose programs would take a name for a formula."""
    return findings.map(lambda value: cell(value) if isinstance(value, str) else value)


def read_findings(content: bytes, file: str) -> pd.DataFrame:
    """What `write_findings` wrote; what is not known is None. Raises `FindingsUnreadable`."""
    try:
        table = pq.read_table(pa.BufferReader(content))
    except pa.ArrowInvalid as error:
        raise FindingsUnreadable(
            f"{file}: is not a Parquet file that can be read; is it complete?"
        ) from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode(errors="replace")
    if version != str(FINDINGS_FORMAT):
        raise FindingsUnreadable(
            f"{file}: has the findings format {version}; this VisionOps reads {FINDINGS_FORMAT}"
        )
    return pd.DataFrame({name: pd.Series(table[name].to_pylist(), dtype=object) for name in SCHEMA.names})


def with_labels(findings: pd.DataFrame, images: Images, batch: str) -> pd.DataFrame:
    """Findings on a batch, each with the label that its image came with; `images` are those of the source."""
    prefix = images_prefix(batch)
    wanted = findings["image"][findings["image"].str.startswith(prefix)].str.removeprefix(prefix).unique()
    there = pc.is_in(images.name, value_set=TextColumn(wanted).array()).to_numpy(zero_copy_only=False)
    labels = {prefix + image.name: _shown(image, images.own) for image in images.take(there.nonzero()[0])}
    told = [labels.get(image) for image in findings["image"]]
    return findings.assign(label=pd.Series(told, index=findings.index, dtype=object))


def _storable(value: Any) -> Any:
    """Text that is Unicode, whatever bytes the name of a file has."""
    return storable(value) if isinstance(value, str) else value


def boxes_in_words(boxes: Sequence[Any]) -> str:
    """How many boxes of which class: `2 bolt, 1 nut`."""
    counts = Counter(str(box["label"]) for box in boxes)
    return ", ".join(f"{count} {label}" for label, count in sorted(counts.items())) or "no boxes"


class FindingsMissing(NotFound):
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
    refused = _findings_of_refused(lakefs, project, batch)
    if refused is not None:
        return BatchFindings(batch, "refused", refused, _read_at(lakefs, project, batch, refused))
    published = publications(lakefs, project)
    merge = published.newest(batch)
    if merge is None:
        branches = ", ".join(lakefs.branches(repository, "ingest")) or "none"
        raise FindingsMissing(
            f"{published.in_words(batch, f'{repository}/{MAIN}')}; branches of refused ones: {branches}"
        )
    outcome: Outcome = "published" if batch in published.standing else "retracted"
    return BatchFindings(batch, outcome, merge, _read_at(lakefs, project, batch, merge))


def refused_batches(lakefs: LakeFSResource, project: Project) -> dict[str, Commit]:
    """The batches whose audit found errors and that wait on their branches, by name; raises what lakeFS raises."""
    prefix = ingest_branch(project.repository, project.annotations, "")
    names = [branch.removeprefix(prefix) for branch in lakefs.branches(project.repository, prefix)]
    found = {name: _findings_of_refused(lakefs, project, name) for name in names}
    return {name: commit for name, commit in found.items() if commit is not None}


def _findings_of_refused(lakefs: LakeFSResource, project: Project, batch: str) -> Commit | None:
    branch = ingest_branch(project.repository, project.annotations, batch)
    try:
        facts = (head := lakefs.head(project.repository, branch)).metadata
    except LakeFSNotFound:
        return None
    # Without errors it was published, and killed before its branch was deleted, or before it was merged.
    refused = len(head.parents) == 1 and FINDINGS in facts and facts.get(ERRORS) != "0"
    return head if refused and facts.get(BATCH) == batch else None


def _read_at(lakefs: LakeFSResource, project: Project, batch: str, commit: Commit) -> pd.DataFrame:
    file = findings_path(batch, project.annotations)
    try:
        return read_findings(lakefs.read(project.repository, commit.id, file), file)
    except LakeFSNotFound as error:
        raise FindingsMissing(
            f"batch {batch} was imported in commit {commit.id[:12]} by a VisionOps that kept no findings: import it "
            f"again with `visionops import {project.project} SOURCE --batch {batch} --findings FILE.csv`"
        ) from error


def _shown(image: SourceImage, own: OwnTruth | None) -> str | None:
    """What an image of a source is labelled with."""
    if own is not None:
        said = image.extra.get(own.column)
        return None if said is None else own.task.shown(said)
    return image.label if image.boxes is None else boxes_in_words(image.boxes)
