"""Taking a batch: from images as people have them to what is uploaded, and whether it may be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa

from visionops_assets.dataset import audit, integrity
from visionops_assets.dataset.annotations import write_annotations
from visionops_assets.dataset.batch_rows import BatchImage, Fetch, place_batch
from visionops_assets.dataset.examine import examine
from visionops_assets.dataset.findings import Finding, findings_table, has_errors, join_findings
from visionops_assets.dataset.formats.detect import read_source
from visionops_assets.dataset.formats.source import Source, SourceImage, unchanged
from visionops_assets.dataset.layout import annotations_path, check_batch_name, image_path, images_prefix
from visionops_assets.dataset.manifest import manifest_rows
from visionops_assets.dataset.rules import AuditRules
from visionops_assets.dataset.suspects import Opinion, check_boxes_plausible, check_labels_plausible

AUDIT_RULES = AuditRules()


@dataclass(frozen=True, slots=True)
class Upload:
    """An image to be written."""

    path: str
    sha256: str
    size: int
    image: SourceImage = field(repr=False)

    def read(self) -> bytes:
        """Its bytes. Raises `SourceChanged` when they are not those that were audited."""
        return unchanged(self.image, self.sha256)


@dataclass(frozen=True)
class BatchPlan:
    """What importing a batch comes to. It may be published when `ok`.

    `annotations` are the rows of the annotations file at `annotations_path`, `findings` has paths as they will
    be in the repository.
    """

    batch: str
    format: str
    annotations_path: str
    annotations: pa.Table
    uploads: Sequence[Upload]
    findings: pd.DataFrame
    # What an archive was unpacked into goes when its last holder goes.
    source: Source = field(repr=False)

    @property
    def ok(self) -> bool:
        return not has_errors(self.findings)

    def annotations_bytes(self) -> bytes:
        """The annotations file."""
        return write_annotations(self.annotations, self.annotations_path)


def plan_batch(
    source: Path,
    batch: str,
    classes: Sequence[str],
    annotations: str,
    existing: pd.DataFrame,
    shares: Mapping[str, float],
    salt: str,
    *,
    format_name: str | None = None,
    read_existing: Fetch | None = None,
    rules: AuditRules = AUDIT_RULES,
    opinion: Opinion | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BatchPlan:
    """Look at every image of a source, give it its split, and say what is wrong.

    `annotations` is the name of the project's annotations, `existing` the manifest of `main`, `shares` and
    `salt` the project's splits. `read_existing` gives images of `main` by path, to decide on near duplicates
    of them; without it only copies of them are found. `opinion` is the champion's, if
    there is one. Images of this batch that `main` has keep their split and
    group, so the same source gives the same plan before and after it was published.
    Raises `SourceError`, and `ValueError` for a batch name that cannot be.
    """
    check_batch_name(batch)
    file = annotations_path(batch, annotations)
    found = read_source(source, format_name)
    named, misnamed = _named(found.images, batch)
    looked_at = list(examine(list(named.values()), progress=progress))
    examined = [one._replace(name=path) for path, one in zip(named, looked_at, strict=True)]
    usable = [
        BatchImage(named[one.name], one)
        for one in examined
        if one.error is None and not (named[one.name].label is None and named[one.name].boxes is None)
    ]
    others = existing[existing["batch"] != batch].reset_index(drop=True)
    table, duplicates = place_batch(usable, existing, others, shares, salt, file, read_existing)
    rows = manifest_rows(table, file).to_pandas()
    related = others[others["group"].isin(rows["group"])]
    findings = [
        _in_repository(found.findings, batch),
        misnamed,
        audit.check_decodable(examined, audit.Limits(rules.min_side, rules.max_side, rules.max_aspect)),
        _check_any(usable, batch),
        integrity.check_labels_known(rows, classes),
        integrity.check_groups_whole(pd.concat([related, rows], ignore_index=True)),
        audit.check_boxes(rows),
        audit.check_exact_duplicates(rows, others),
        audit.check_near_duplicates(duplicates, rows, others),
        audit.check_class_balance(rows, others),
        _check_plausible(rows, usable, opinion, rules),
    ]
    uploads = [Upload(one.path, one.examined.sha256, one.examined.size, one.image) for one in usable]
    return BatchPlan(batch, found.format, file, table, uploads, join_findings(findings), found)


def _named(images: Sequence[SourceImage], batch: str) -> tuple[dict[str, SourceImage], pd.DataFrame]:
    """The images by their path in the repository, and findings on names that cannot be one."""
    named: dict[str, SourceImage] = {}
    findings = []
    for image in images:
        try:
            named[image_path(batch, image.name)] = image
        except ValueError as error:
            findings.append(Finding("named rightly", image.name, str(error), "rename it"))
    return named, findings_table(findings)


def _in_repository(findings: pd.DataFrame, batch: str) -> pd.DataFrame:
    """Findings of a source, with its names as paths in the repository."""
    return findings.assign(image=[images_prefix(batch) + name for name in findings["image"]])


def _check_plausible(
    rows: pd.DataFrame, images: Sequence[BatchImage], opinion: Opinion | None, rules: AuditRules
) -> pd.DataFrame:
    """The labels against what the champion says. A class that it never learnt is no disagreement."""
    if opinion is None:
        return findings_table([])
    detects = "boxes" in rows.columns
    learnt = rows if detects else rows[rows["label"].isin(opinion.classes)]
    judged = set(learnt["path"])
    predictions = opinion.predict(
        (one.path, unchanged(one.image, one.examined.sha256)) for one in images if one.path in judged
    )
    if detects:
        return check_boxes_plausible(
            learnt, predictions, opinion.classes, rules.confidence, rules.max_disagreement
        )
    return check_labels_plausible(learnt, predictions, rules.confidence, rules.max_disagreement)


def _check_any(usable: Sequence[BatchImage], batch: str) -> pd.DataFrame:
    if usable:
        return findings_table([])
    return findings_table(
        [Finding("complete", batch, "has no image that can be used", "see the other findings")]
    )
