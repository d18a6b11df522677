"""What a dataset version must hold: checks of its manifest, and of its images, there, unaltered and decodable.

Each check gives its findings; an empty table means it holds. `table` is a manifest (or a batch's rows in its
columns). What is excluded takes no part in any split.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from edge.images.decode import decode_whole
from edge.images.header import UnreadableImage
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSError, LakeFSGone, LakeFSNotFound
from resources.nearest import nearest
from resources.storage import Scratch
from visionops_assets.common.findings import OF_THE_TASK, WHOLE, Finding, findings_table, has_errors
from visionops_assets.config.project import Project
from visionops_assets.dataset.cache.sample_cache import SampleError
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.dataset.dataset_task import truth_of
from visionops_assets.dataset.retraction import claims_of_others
from visionops_assets.dataset.versions.annotations import AnnotationsError
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.dataset.versions.layout import BATCHES, batch_of, is_image
from visionops_assets.dataset.versions.manifest_diff import labels_of
from visionops_assets.tasks.task_registry import task as task_of
from visionops_assets.tasks.task_registry import task_taught_by

Progress = Callable[[int, int], None]


def check_labels_known(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Every label is a class of the project."""
    labels = labels_of(table)
    unknown = labels[~labels.isin([*classes, *truth_of(table.columns).task.nothing])]
    fix = "correct the label (or --map OLD=NEW), or add the class to the project file"
    why = f"the project's classes are {_few(classes)}; {fix}"
    paths, first = table["path"].iloc[unknown.index], ~unknown.duplicated()
    return findings_table(
        Finding(
            "labels known",
            path,
            f"has the unknown label {label!r}{_meant(label, classes) if new else ''}",
            why,
        )
        for path, label, new in zip(paths, unknown, first, strict=True)
    )


def _meant(label: object, classes: Sequence[str]) -> str:
    found = nearest(str(label), classes)
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def check_task(columns: Sequence[str], task: str) -> pd.DataFrame:
    """The annotations, by their columns, are those of the project's task: of boxes and labels of whole images only one
    can be trained on."""
    found, wanted = task_taught_by(columns), task_of(task)
    if found == wanted:
        return findings_table([])
    what = f"has {found.seen_as}"
    why = (
        f"the project learns from {wanted.learns_from}: give such a source, or make a project for this one with "
        "`visionops init NAME --from FOLDER`"
    )
    return findings_table([Finding(OF_THE_TASK, WHOLE, what, why)])


def check_groups_whole(table: pd.DataFrame) -> pd.DataFrame:
    """No group has images in two splits."""
    used = table[~table["excluded"].astype(bool)]
    sides = used.drop_duplicates(["group", "split"])
    straddling = sides[sides["group"].duplicated(keep=False)].sort_values(["group", "split"])
    first = used.drop_duplicates("group").set_index("group")["path"]
    return findings_table(
        Finding(
            "groups whole",
            str(first.loc[group]),
            f"its group {group!r} is in {' and '.join(rows['split'])}",
            "images of one group are alike, so the holdout would flatter the model; give the group one split",
        )
        for group, rows in straddling.groupby("group", sort=True)
    )


def check_holdout_groups(
    tables: Iterable[pa.Table], *, least: int, share: float, slices: Sequence[str] = ()
) -> pd.DataFrame:
    """Where images have groups, the holdout has enough of them to judge a model by (else WARN).

    `tables` have `group` (null: of its own), `sha256`, `split` and `excluded`; `least` is the gate's number of groups,
    `share` the holdout's of all groups.
    """
    counts: dict[str, int] = {}
    grouped = False
    for table in tables:
        used = table.filter(pc.invert(table["excluded"]))
        grouped = grouped or bool(
            pc.any(pc.fill_null(pc.not_equal(used["group"], used["sha256"]), False)).as_py()
        )
        held = used.filter(pc.equal(used["split"], "holdout"))
        of_image = pc.coalesce(held["group"].cast(pa.string()), held["sha256"].cast(pa.string()))
        for found in pc.value_counts(of_image).to_pylist():
            counts[found["values"]] = counts.get(found["values"], 0) + found["counts"]
    if not grouped or len(counts) >= least:
        return findings_table([])
    images = sum(counts.values())
    named = ", ".join(sorted(counts)[:5])
    what = {
        0: "has no image: every group went to another side",
        1: f"is one group, {named}, of {images:,} images",
    }.get(len(counts), f"is {len(counts)} groups, {named}, of {images:,} images")
    cannot = "be judged" if len(counts) < 2 else "be shown to be better"
    columns = f" (now {', '.join(slices)})" if slices else ""
    why = (
        f"images of one group are one piece of evidence, so no model can ever {cannot} on this holdout, it takes "
        f"at least {least}: declare finer ones (session, day or part), about {math.ceil(least / share)} in all; or, "
        "where images of one camera are independent of each other, no `group`, and the camera as a column of its own "
        f"that `gate.slices` names{columns}"
    )
    return findings_table([Finding("holdout groups", "the holdout", what, why, "WARN")])


def check_classes_in_splits(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Every class has images in every split: in train it must, elsewhere it cannot be judged without."""
    used = table[~table["excluded"].astype(bool)].reset_index(drop=True)
    labels = labels_of(used)
    present = set(zip(used["split"].to_numpy()[labels.index], labels, strict=True))
    findings = []
    for split in ("train", "val", "holdout"):
        for label in classes:
            if (split, label) not in present:
                severity, why = (
                    ("ERROR", "it cannot be learnt")
                    if split == "train"
                    else ("WARN", "it cannot be judged there")
                )
                findings.append(
                    Finding(
                        "classes in splits",
                        f"class {label}",
                        f"has no image in {split}",
                        f"{why}; add images of it, or take it out of the project's classes",
                        severity,  # type: ignore[arg-type]
                    )
                )
    return findings_table(findings)


def check_images_present(table: pd.DataFrame, listing: Iterable[str]) -> pd.DataFrame:
    """Every annotated image is there, and every image that is there is annotated (else WARN)."""
    there, annotated = set(listing), set(table["path"])
    missing = [
        Finding("complete", path, "is annotated but not there", "add the image, or remove its row")
        for path in sorted(annotated - there)
    ]
    bare = [
        Finding("annotated", path, "has no annotation", "it is not used; annotate it, or remove it", "WARN")
        for path in sorted(there - annotated)
    ]
    return findings_table([*missing, *bare])


def check_images_readable(arriving: Iterable[tuple[str, bytes]], sha256s: Mapping[str, str]) -> pd.DataFrame:
    """The images given as (path, bytes) have their SHA-256 and decode; those of `sha256s` that never arrive are
    named too. For a new batch give all of them, for a whole version a sample."""
    findings = []
    expected = dict(sha256s)
    for path, data in arriving:
        sha256 = expected.pop(path, None)
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            why = "it was altered after its batch was audited; restore it, or import the batch again"
            findings.append(Finding("unaltered", path, "does not have the SHA-256 of its annotation", why))
            continue
        try:
            decode_whole(data, path, 1)
        except UnreadableImage as error:
            findings.append(
                Finding("readable", path, error.reason, "replace it, or remove it with its annotation")
            )
    for path in sorted(expected):
        findings.append(Finding("complete", path, "could not be read", "add the image, or remove its row"))
    return findings_table(findings)


def _few(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:12])
    return shown if len(classes) <= 12 else f"{shown} and {len(classes) - 12} more"


def unreadable_images(
    lakefs: LakeFSResource, project: Project, version: DatasetVersion, scratch: Scratch
) -> pd.DataFrame:
    """Findings on images that are missing, altered, not decodable (ERROR) or not annotated (WARN).

    Images are fetched into the sample cache, so those of earlier versions were looked at then, and training finds
    all of them there. Only where that fails is every image read, to name all that are wrong.
    """
    repository, commit = project.repository, version.commit.id
    listing = {entry.path for entry in lakefs.objects(repository, commit, BATCHES) if is_image(entry.path)}
    bare = listing.difference(version.samples["path"])
    # What only another project of the repository has labelled lacks nothing.
    for batch in sorted({batch_of(path) for path in bare}):
        with suppress(AnnotationsError):
            claims = claims_of_others(lakefs, repository, commit, batch, project.annotations)
            listing -= bare & claims.sha256s.keys()
    findings = check_images_present(version.samples, listing)
    if has_errors(findings):
        return findings
    try:
        load_samples(lakefs, repository, commit, version.used, scratch.samples, project.recipe.input)
    except (UnreadableImage, SampleError, LakeFSNotFound):
        used = version.used
        arriving = lakefs.read_many(repository, commit, used["path"].tolist())
        found = check_images_readable(arriving, dict(zip(used["path"], used["sha256"], strict=True)))
        return pd.concat([found, findings], ignore_index=True)
    return findings


def verify_images(
    lakefs: LakeFSResource,
    repository: str,
    commit: str,
    samples: pd.DataFrame,
    progress: Progress = lambda done, of: None,
) -> pd.DataFrame:
    """Read the images of manifest rows and compare their SHA-256; findings name what is gone, altered, unreadable.

    Memory holds a bounded number of images. Raises `LakeFSUnavailable` only where not one image can be read.
    """
    expected = dict(zip(samples["path"], samples["sha256"], strict=True))
    findings, failed, last = [], 0, None
    for done, (path, data) in enumerate(lakefs.read_each(repository, commit, list(expected)), start=1):
        if isinstance(data, LakeFSError):
            last, gone = data, isinstance(data, LakeFSNotFound | LakeFSGone)
            failed += not gone
            what = "is gone" if gone else f"cannot be read: {data}"
            findings.append(
                Finding("intact", path, what, "restore the object in lakeFS's storage, or retract its batch")
            )
        elif hashlib.sha256(data).hexdigest() != expected[path]:
            why = "restore the object in lakeFS's storage, or import its batch again"
            findings.append(Finding("intact", path, "was altered: its SHA-256 is not the audited one", why))
        progress(done, len(expected))
    if last is not None and failed == len(expected):
        raise last
    return findings_table(findings)


def sample_of_rows(samples: pd.DataFrame, count: int, seed: str) -> pd.DataFrame:
    """At most `count` rows, another choice for another `seed`."""
    if len(samples) <= count:
        return samples
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    return samples.sample(count, random_state=number).sort_values("path")
