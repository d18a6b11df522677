"""Taking a batch: from images as people have them to what is uploaded, and whether it may be."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from visionops_assets.common.arrow_columns import TextColumn, release_memory, system_memory_pool
from visionops_assets.common.findings import (
    ANY_ANNOTATED,
    OF_THE_TASK,
    WHOLE,
    Finding,
    findings_table,
    has_errors,
    join_findings,
)
from visionops_assets.config.project import AuditRules, Project
from visionops_assets.dataset import audit, batch_on_main, integrity
from visionops_assets.dataset.audit import check_near_duplicates
from visionops_assets.dataset.batch_images import BatchImages, Examined, Looks, Uploads, examine
from visionops_assets.dataset.batch_on_main import check_group_names
from visionops_assets.dataset.batch_rows import Fetch, PlacedBatch, place_batch
from visionops_assets.dataset.dataset_task import truth_of
from visionops_assets.dataset.findings_file import with_labels
from visionops_assets.dataset.importing.box_coordinates import settled
from visionops_assets.dataset.importing.class_names import (
    as_the_project_calls_them,
    class_names,
    findings_on_names,
)
from visionops_assets.dataset.importing.formats import own_batches
from visionops_assets.dataset.importing.image_columns import Images, Source
from visionops_assets.dataset.importing.image_source import SplitSums, Sums
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import NOTHING_STATED, Stated
from visionops_assets.dataset.splits import with_holdout
from visionops_assets.dataset.suspect_labels import Opinion, check_plausible
from visionops_assets.dataset.versions.annotations import write_annotations
from visionops_assets.dataset.versions.layout import (
    annotations_path,
    batch_of,
    check_batch_name,
    image_path,
    images_prefix,
)
from visionops_assets.dataset.versions.manifest import manifest_rows

AUDIT_RULES = AuditRules()
# Findings on the batch as a whole, which stay though images are left out.
OF_ALL = (
    ANY_ANNOTATED,
    OF_THE_TASK,
    "classes apart",
    "groups whole",
    "holdout groups",
    "class balance",
    "labels plausible",
)
_LEFT_OUT = "left out"
_ANNOTATIONS = (
    ".json",
    ".jsonl",
    ".csv",
    ".tsv",
    ".parquet",
    ".xml",
    ".yaml",
    ".yml",
    ".txt",
    ".names",
    ".data",
)


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
    uploads: Uploads
    findings: pd.DataFrame
    sums: Sums
    splits: SplitSums
    # What an archive was unpacked into goes when its last holder goes.
    source: Source = field(repr=False)

    @property
    def ok(self) -> bool:
        return not has_errors(self.findings)

    def also(self, findings: Iterable[pd.DataFrame]) -> "BatchPlan":
        """The same with more findings."""
        return replace(self, findings=join_findings([self.findings, *findings]))

    def annotations_bytes(self) -> bytes:
        """The annotations file."""
        return write_annotations(self.annotations, self.annotations_path)


@dataclass(frozen=True)
class BatchRules:
    """What a project declares of its batches: its classes, the name of its annotations, how its groups are split
    (`shares` by split, `salt`), and what its audit allows."""

    classes: Sequence[str]
    annotations: str
    shares: Mapping[str, float]
    salt: str
    audit: AuditRules = AUDIT_RULES

    @classmethod
    def of(cls, project: Project) -> "BatchRules":
        """Those of a project's file."""
        splits = project.splits
        return cls(project.classes, project.annotations, splits.shares(), splits.salt, project.audit)


@dataclass(frozen=True)
class OnMain:
    """What `main` holds: its manifest, and what gives images of it by path, to decide on near duplicates of them;
    without that only copies of them are found."""

    manifest: pa.Table
    read: Fetch | None = None


@system_memory_pool()
def plan_batch(
    source: Path,
    batch: str,
    rules: BatchRules,
    main: OnMain,
    *,
    stated: Stated = NOTHING_STATED,
    opinion: Opinion | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BatchPlan:
    """Look at every image of a source, give it its split, and say what is wrong.

    `opinion` is the champion's, if there is one. Images of this batch that `main` has keep their split and
    group, so the same source gives the same plan before and after it was published.
    Raises `SourceError`, and `ValueError` for a batch name that cannot be.
    """
    check_batch_name(batch)
    file = annotations_path(batch, rules.annotations)
    classes, existing, shares = rules.classes, main.manifest, rules.shares
    others = existing.filter(pc.not_equal(existing["batch"], batch)).combine_chunks()
    held = bool(pc.any(pc.equal(others["split"], "holdout")).as_py())
    if stated.holdout is not None:
        # What this batch has on `main` is drawn anew.
        existing, shares = others, with_holdout(shares, stated.holdout)
    found = read_source(source, stated, held_elsewhere=held)
    found = replace(found, images=as_the_project_calls_them(found.images, classes))
    usable, unusable = _usable(found.images, batch, rules.audit, progress)
    release_memory()
    usable, odd, left_out_boxes = _settled(usable, batch)
    told = join_findings(
        [
            _in_repository(found.findings, batch),
            findings_table(_of_all(found, held)),
            *unusable,
            odd,
            check_group_names(usable.images.group, others),
        ]
    )
    if stated.leave_out_errors:
        usable, told = _without(usable, told)
    while True:
        placed = place_batch(usable, existing, others, shares, rules.salt, file, main.read)
        uploads = Uploads(usable.images, placed.table, placed.rows)
        release_memory()
        checked = join_findings(
            [
                told,
                _check_any(uploads, batch),
                *_check_rows(placed, others, classes, file, rules.audit),
                audit.check_class_balance(placed.labels, placed.other_labels),
                check_plausible(uploads, placed.table, opinion, rules.audit),
            ]
        )
        if not stated.leave_out_errors or not has_errors(checked):
            break
        # What is left out may have been the original of a copy: all is placed anew.
        fewer, left_out = _without(usable, checked)
        if len(fewer) == len(usable):
            break
        usable, told = fewer, join_findings([told, left_out[left_out["check"] == _LEFT_OUT]])
    # What was seen of the images stands in the annotations by now.
    del usable
    release_memory()
    told = with_labels(checked, found.images, batch)
    sums = _sums(found, placed.table, left_out_boxes)
    splits = _splits(placed.table, others)
    return BatchPlan(batch, found.format, file, placed.table, uploads, told, sums, splits, found)


def _of_all(found: Source, held: bool) -> Iterator[Finding]:
    """What is to be told of the source as a whole; `held` says that `main` has a holdout."""
    yield from findings_on_names(class_names(found.images))
    # Batches of ours come with the sides that they have.
    if held and found.format != own_batches.NAME and "val" in found.images.splits() <= {"train", "val"}:
        what = "comes with train and val only, and main has a holdout already"
        why = (
            "so the holdout does not grow by it, and an undecided gate stays so; --holdout 0.25 draws by lot"
        )
        yield Finding("held out", WHOLE, what, why, "WARN")


def _usable(
    images: Images, batch: str, rules: AuditRules, progress: Callable[[int, int], None] | None
) -> tuple[BatchImages, Sequence[pd.DataFrame]]:
    """The images that can be used, each looked at, and findings on the others."""
    images, paths, misnamed = _named(images, batch)
    looks = Looks.of(len(images))
    examined = looks.keeping(_at(paths, examine(images, progress=progress)))
    limits = audit.Limits(rules.min_side, rules.max_side, rules.max_aspect)
    unreadable = audit.check_decodable(examined, limits)
    usable = np.flatnonzero(looks.usable & images.annotated)
    return BatchImages(images, paths, looks).take(usable), (misnamed, unreadable)


def _settled(usable: BatchImages, batch: str) -> tuple[BatchImages, pd.DataFrame, Counter[str]]:
    """The images with their boxes in pixels, findings on these, and why boxes are left out."""
    looks = usable.looks
    found = settled(usable.images, looks.height, looks.width, looks.orientation)
    left_out = Counter({"standing twice": found.repeated, "no numbers": found.no_numbers})
    told = _in_repository(findings_table(found.findings), batch)
    return replace(usable, images=found.images), told, +left_out


def _without(usable: BatchImages, findings: pd.DataFrame) -> tuple[BatchImages, pd.DataFrame]:
    """The images that no ERROR names, and the findings with what is left out as such."""
    wrong = findings["severity"] == "ERROR"
    bad = pc.is_in(usable.paths, value_set=pa.array(findings["image"][wrong].unique().tolist(), pa.string()))
    kept = usable.take(np.flatnonzero(~bad.to_numpy(zero_copy_only=False)))
    # What concerns no single image cannot be left out.
    of_image = wrong & ~findings["check"].isin(OF_ALL)
    told = findings.copy()
    told.loc[of_image, "severity"] = "WARN"
    told.loc[of_image, "why"] = told.loc[of_image, "why"] + "; this time it is left out"
    told.loc[of_image, "check"] = _LEFT_OUT
    return kept, told


def _sums(found: Source, table: pa.Table, left_out: Counter[str]) -> Sums:
    """What became of everything, now that it is known which images are kept."""
    sums = found.sums
    column, task = truth_of(table.column_names)
    kept = len(table) if task.whole_images else len(task.named(table[column].combine_chunks())[0])
    images, annotations = Counter(sums.images_left_out), Counter(sums.annotations_left_out) + left_out
    images["not usable"] += sums.stored - len(table)
    annotations["their image is not usable"] += sums.kept - left_out.total() - kept
    return replace(
        sums, stored=len(table), images_left_out=+images, kept=kept, annotations_left_out=+annotations
    )


def _splits(table: pa.Table, others: pa.Table) -> SplitSums:
    """How many images of the batch, and of `main` with it, are of each split."""
    mine, theirs = (
        Counter({each["values"]: each["counts"] for each in one["split"].value_counts().to_pylist()})
        for one in (table, others)
    )
    return SplitSums(mine, mine + theirs, pc.sum(table["excluded"]).as_py() or 0)


def _named(images: Images, batch: str) -> tuple[Images, pa.Array, pd.DataFrame]:
    """The images that can be named so, their paths in the repository, and findings on the names that cannot."""
    findings: list[Finding] = []
    wrong = np.zeros(len(images), bool)

    def paths() -> Iterator[str]:
        for place, name in enumerate(images.names):
            try:
                yield image_path(batch, name)
            except ValueError as error:
                findings.append(Finding("named rightly", name, str(error), "rename it"))
                wrong[place] = True

    named = TextColumn(paths()).array().cast(pa.string())
    return images.take(np.flatnonzero(~wrong)), named, findings_table(findings)


def _at(paths: pa.Array, examined: Iterable[Examined]) -> Iterator[Examined]:
    """What was seen, under its path in the repository."""
    for place, one in enumerate(examined):
        yield replace(one, name=paths[place].as_py())


def _check_rows(
    placed: PlacedBatch, others: pa.Table, classes: Sequence[str], file: str, rules: AuditRules
) -> Iterator[pd.DataFrame]:
    """Findings on the annotations; only rows that may have one are looked at one by one."""
    table = placed.table

    def mine(rows: Iterable[int]) -> pd.DataFrame:
        found: pd.DataFrame = manifest_rows(table.take(pa.array(rows, pa.int64())), file).to_pandas()
        return found

    def theirs(rows: Iterable[int]) -> pd.DataFrame:
        found: pd.DataFrame = others.take(pa.array(rows, pa.int64())).to_pandas()
        return found

    def both(rows: Iterable[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
        distinct = set(rows)
        return mine(sorted(row for row in distinct if row >= 0)), theirs(
            sorted(-1 - row for row in distinct if row < 0)
        )

    yield integrity.check_labels_known(mine(batch_on_main.rows_with_unknown_labels(table, classes)), classes)
    batch, existing = both(placed.straddling)
    yield integrity.check_groups_whole(pd.concat([existing, batch], ignore_index=True))
    task = truth_of(table.column_names).task
    yield task.check(mine(task.rows_to_check(table)))
    own, known = batch_on_main.copied_rows(table, others)
    copied, originals = mine(own), theirs(known)
    yield audit.check_exact_duplicates(copied, originals)
    yield audit.check_anything_new(copied, originals, batch_of(file), len(table))
    batch, existing = both(row for newer, older, _ in placed.duplicates for row in (newer, older))
    paths = {row: _path(row, table, others) for pair in placed.duplicates for row in pair[:2]}
    pairs = [(paths[newer], paths[older], value) for newer, older, value in placed.duplicates]
    name = batch_of(file)
    yield check_near_duplicates(pairs, batch, existing, len(table), rules.max_chain, name)


def _path(row: int, table: pa.Table, others: pa.Table) -> str:
    return str((table["path"][row] if row >= 0 else others["path"][-1 - row]).as_py())


def _in_repository(findings: pd.DataFrame, batch: str) -> pd.DataFrame:
    """Findings of a source, with its images as paths in the repository; files of annotations are none of it."""
    return findings.assign(
        image=[
            name if name == WHOLE or name.lower().endswith(_ANNOTATIONS) else images_prefix(batch) + name
            for name in findings["image"]
        ]
    )


def _check_any(uploads: Uploads, batch: str) -> pd.DataFrame:
    if len(uploads):
        return findings_table([])
    return findings_table(
        [Finding("complete", batch, "has no image that can be used", "see the other findings")]
    )
