"""Write, audit, publish: a batch is imported on a branch of its own and merged only if its checks pass.

The branch is `layout.ingest_branch`. What was found is committed with the batch. A refused batch's branch stays.
Killed anywhere, the import is run again: it starts from a fresh branch, and `main` has all of a batch or nothing of
it.

A batch of the drop is taken so: read, audited, published or refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from resources.drop import Drop
from resources.error_family import Refused
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSConflict, LakeFSNotFound
from resources.storage import ArtifactStore
from visionops_assets.common import run_tags
from visionops_assets.common.arrow_columns import release_memory, system_memory_pool, table_content_digest
from visionops_assets.common.findings import findings_in_words
from visionops_assets.config.project import Neighbours, Project
from visionops_assets.dataset.batch_plan import OF_ALL, BatchPlan, BatchRules, OnMain, plan_batch
from visionops_assets.dataset.findings_file import (
    FINDINGS_FORMAT,
    findings_for_spreadsheets,
    with_all_columns,
    write_findings,
)
from visionops_assets.dataset.importing.image_source import SplitSums, Sums
from visionops_assets.dataset.importing.statements import NOTHING_STATED, Stated
from visionops_assets.dataset.integrity import check_holdout_groups, check_task
from visionops_assets.dataset.retraction import Claims, check_apart, check_owner, claims_of_others
from visionops_assets.dataset.suspect_labels import Opinion
from visionops_assets.dataset.versions.annotations import AnnotationsError, read_annotations
from visionops_assets.dataset.versions.commit_log import (
    ANNOTATIONS,
    BATCH,
    ERRORS,
    FINDINGS,
    PROJECT,
    publications,
)
from visionops_assets.dataset.versions.dataset_version import manifest_at
from visionops_assets.dataset.versions.layout import findings_path, images_prefix, ingest_branch
from visionops_assets.dataset.versions.manifest import no_rows, read_manifest

MERGE_ATTEMPTS = 5
# What a terminal shows at once, with room for what stands around it.
SHOWN_LINES = 16
_DELETED_AT_ONCE = 1000
Progress = Callable[[str, int, int], None]
_SAID_EVERY = 1000
_CHECKS_SHOWN = 4


class BatchRefused(Refused, ValueError):
    """A batch whose checks found errors; `main` is as it was, and the batch lies on `branch`."""

    def __init__(self, message: str, branch: str, images: int, findings: pd.DataFrame, sums: Sums) -> None:
        super().__init__(message)
        self.branch, self.images, self.findings, self.sums = branch, images, findings, sums


@dataclass(frozen=True)
class Published:
    """What came of a batch. `commit` is the merge on `main`; None where nothing had to change."""

    batch: str
    outcome: Literal["published", "unchanged"]
    images: int
    commit: str | None
    findings: pd.DataFrame
    sums: Sums
    splits: SplitSums


@dataclass(frozen=True)
class Publisher:
    """Imports batches of one project. `progress` hears (stage, done, of).

    `metadata` goes into the commits. `opinion` gives the champion's opinion of labels, if there is a champion.
    `check_source` raises where the source is no longer what was read; it is asked before anything is written or merged.
    What `neighbours`, the projects that share the repository, have labelled is left as it is.
    """

    project: Project
    lakefs: LakeFSResource
    artifacts: ArtifactStore
    progress: Progress = lambda stage, done, of: None
    metadata: dict[str, str] = field(default_factory=dict)
    opinion: Callable[[], Opinion | None] = lambda: None
    check_source: Callable[[], None] = lambda: None
    neighbours: Neighbours = field(default_factory=dict)

    @system_memory_pool()
    def publish(
        self, source: Path, batch: str, stated: Stated = NOTHING_STATED, address: str | None = None
    ) -> Published:
        """Import, check and merge a batch.

        Images are copied, unless the project says `source_is_immutable`: then lakeFS refers to them where they lie,
        at `address` (`s3://…/`, by default the folder `source`).

        Importing the same batch again changes nothing; a corrected one replaces it. Where `main` moves meanwhile,
        the batch is audited against it again. Raises `BatchRefused` with the findings in words, `SourceError`,
        `AnnotationsError` for another project's annotations that cannot be read, and what lakeFS raises.
        """
        repository = self.project.repository
        self.lakefs.create_repository(repository)
        for _ in range(MERGE_ATTEMPTS):
            base = self.lakefs.head(repository, MAIN).id
            plan = self._plan(source, batch, base, stated)
            release_memory()
            self.check_source()
            claims = claims_of_others(self.lakefs, repository, base, batch, self.project.annotations)
            if plan.ok and self._is_published(plan, base, claims):
                return Published(
                    batch, "unchanged", len(plan.uploads), None, plan.findings, plan.sums, plan.splits
                )
            plan = plan.also(self._of_others(plan, claims))
            branch = self._write(plan, base, self._where(source, address, claims, plan.source.linked), claims)
            if not plan.ok:
                errors = plan.findings[plan.findings["severity"] == "ERROR"]
                rest = "" if errors["check"].isin(OF_ALL).any() else "; --leave-out-errors publishes the rest"
                raise BatchRefused(
                    f"batch {batch} is refused, {MAIN} is as it was:\n"
                    f"{findings_in_words(plan.findings, lines=SHOWN_LINES)}\n{plan.sums.in_words()}\n"
                    f"It lies on branch {branch} of {repository}. `visionops findings {self.project.project} {batch} "
                    f"--html FOLDER` shows all that was found. Correct it and import it again{rest}.",
                    branch,
                    len(plan.uploads),
                    plan.findings,
                    plan.sums,
                )
            self.check_source()
            if self.lakefs.head(repository, MAIN).id != base:
                continue
            try:
                merged = self.lakefs.merge(
                    repository, branch, MAIN, f"Publish batch {batch}", self._facts(plan)
                )
            except LakeFSConflict:
                continue
            self.lakefs.delete_branch(repository, branch)
            return Published(
                batch, "published", len(plan.uploads), merged, plan.findings, plan.sums, plan.splits
            )
        raise LakeFSConflict(
            f"{repository}/{MAIN} moved {MERGE_ATTEMPTS} times while batch {batch} was imported: import it again"
        )

    def inspected(self, source: Path, stated: Stated = NOTHING_STATED) -> BatchPlan:
        """What importing a batch would find beside what `main` holds, which may be nothing yet. Raises what `publish`
        raises, but for `BatchRefused`."""
        repository, batch = self.project.repository, "inspected"
        try:
            base = self.lakefs.head(repository, MAIN).id
        except LakeFSNotFound:
            return self._plan(source, batch, None, stated)
        plan = self._plan(source, batch, base, stated)
        claims = claims_of_others(self.lakefs, repository, base, batch, self.project.annotations)
        return plan.also(self._of_others(plan, claims))

    def _plan(self, source: Path, batch: str, base: str | None, stated: Stated) -> BatchPlan:
        """`base` is the commit that the batch comes beside; None where there is none."""
        project, repository = self.project, self.project.repository
        existing = no_rows()
        if base is not None:
            existing = read_manifest(manifest_at(self.lakefs, self.artifacts, project, base), self.artifacts)
        plan = plan_batch(
            source,
            batch,
            BatchRules.of(project),
            OnMain(existing, lambda paths: self.lakefs.read_many(repository, base or MAIN, paths)),
            stated=stated,
            opinion=self.opinion(),
            progress=lambda done, of: self.progress("checked", done, of),
        )
        few = check_holdout_groups(
            [existing.filter(pc.not_equal(existing["batch"], batch)), plan.annotations],
            least=project.gate.least_groups,
            share=project.splits.holdout,
            slices=project.gate.slices,
        )
        of_task = [check_task(plan.annotations.column_names, project.task)] if len(plan.annotations) else []
        return plan.also([few, *of_task])

    def _of_others(self, plan: BatchPlan, claims: Claims) -> Iterator[pd.DataFrame]:
        yield check_apart(plan.batch, plan.annotations, claims, self.neighbours)
        if any(
            each is None or each.annotations == self.project.annotations for each in self.neighbours.values()
        ):
            published = publications(self.lakefs, self.project, self.neighbours)
            yield check_owner(self.project, plan.batch, published, self.neighbours)

    def _is_published(self, plan: BatchPlan, base: str, claims: Claims) -> bool:
        repository = self.project.repository
        # Both come in the order of their bytes.
        wanted = plan.uploads.paths()
        expected = next(wanted, None)
        for entry in self.lakefs.objects(repository, base, images_prefix(plan.batch)):
            if entry.path == expected:
                expected = next(wanted, None)
            elif entry.path not in claims:
                return False
        if expected is not None:
            return False
        try:
            written = read_annotations(
                self.lakefs.read(repository, base, plan.annotations_path), plan.annotations_path
            )
        except (AnnotationsError, LakeFSNotFound):
            return False
        # Not the bytes: another version of the library may have written them.
        return table_content_digest(written) == table_content_digest(plan.annotations)

    def _where(self, source: Path, address: str | None, claims: Claims, linked: bool) -> str | None:
        """Where images may stay for good, if the project says so. An archive is unpacked, hence copied, and so is what
        has links, which lakeFS follows none of; and it would put references in the place of all that a batch has, also
        of others' images."""
        if not self.project.source_is_immutable or not source.is_dir() or claims.sha256s or linked:
            return None
        if address is None or address.startswith("local://"):
            self.lakefs.allow_imports(source)
        return address or f"local://{source.resolve()}/"

    def _write(self, plan: BatchPlan, base: str, stays_at: str | None, claims: Claims) -> str:
        """Everything of a batch on a fresh branch, committed."""
        repository, name = self.project.repository, self.project.annotations
        branch = ingest_branch(repository, name, plan.batch)
        self.lakefs.delete_branch(repository, branch)
        self.lakefs.create_branch(repository, branch, base)
        if stays_at is not None:
            self.lakefs.import_folder(
                repository,
                branch,
                stays_at,
                images_prefix(plan.batch),
                f"Refer to batch {plan.batch} at {stays_at}",
                self._facts(plan),
            )
        kept = self._only_images(plan, branch, claims, referred=stays_at is not None)
        # Images that the format makes (CIFAR, MNIST) or names otherwise are no files of the source.
        missing = int((~kept).sum())
        self.lakefs.write_many(
            repository,
            branch,
            (
                (one.path, one.read)
                for one, row in zip(plan.uploads, plan.uploads.rows, strict=True)
                if not kept[row]
            ),
            lambda done: self.progress("uploaded", done, missing),
        )
        annotations = plan.annotations_bytes()
        release_memory()
        self.lakefs.write(repository, branch, plan.annotations_path, annotations)
        self.lakefs.write(repository, branch, findings_path(plan.batch, name), write_findings(plan.findings))
        if not plan.ok:
            # For who looks at the branch in lakeFS's pages.
            findings = findings_for_spreadsheets(with_all_columns(plan.findings)).to_csv(index=False).encode()
            self.lakefs.write(repository, branch, f"findings/{plan.batch}.csv", findings)
        facts = self._facts(plan) | {FINDINGS: str(FINDINGS_FORMAT)}
        self.lakefs.save(repository, branch, f"Import batch {plan.batch}", facts)
        return branch

    def _only_images(
        self, plan: BatchPlan, branch: str, claims: Claims, *, referred: bool
    ) -> NDArray[np.bool_]:
        """Delete from a branch the images that are no more in the batch, but for those of others; which of its images
        need not be written, by their rows in the annotations, bool (N,): others have them, or they were referred to."""
        repository = self.project.repository
        kept = np.zeros(len(plan.uploads), bool)
        sizes = plan.annotations["size"]
        wanted = enumerate(plan.uploads.paths())
        row, path = next(wanted, (0, None))
        surplus: list[str] = []
        for entry in self.lakefs.objects(repository, branch, images_prefix(plan.batch)):
            while path is not None and path < entry.path:
                row, path = next(wanted, (0, None))
            if path == entry.path:
                kept[row] = path in claims or (referred and entry.size == sizes[row].as_py())
            elif entry.path not in claims:
                surplus.append(entry.path)
            if len(surplus) == _DELETED_AT_ONCE:
                self.lakefs.delete_many(repository, branch, surplus)
                surplus = []
        self.lakefs.delete_many(repository, branch, surplus)
        return kept

    def _facts(self, plan: BatchPlan) -> dict[str, str]:
        errors = int((plan.findings["severity"] == "ERROR").sum())
        return {
            PROJECT: self.project.project,
            ANNOTATIONS: self.project.annotations,
            BATCH: plan.batch,
            "visionops.format": plan.format,
            "visionops.images": str(len(plan.uploads)),
            ERRORS: str(errors),
            "visionops.warnings": str(len(plan.findings) - errors),
            **self.metadata,
        }


@dataclass(frozen=True)
class Taken:
    """What came of a batch. `reference` is where its images are; `commit` the merge, where there is one."""

    outcome: Literal["published", "unchanged", "refused"]
    images: int
    reference: str
    commit: str | None
    findings: pd.DataFrame

    def warnings(self, command: str) -> str:
        """What was told though it kept nothing from `main`: how often each check, and the command that shows it."""
        told = self.findings["check"][self.findings["severity"] == "WARN"].value_counts()
        if told.empty:
            return ""
        shown = [f"{check} {times:,}" for check, times in told.head(_CHECKS_SHOWN).items()]
        more = [f"{len(told) - len(shown)} more checks"] if len(told) > len(shown) else []
        return f"{told.sum():,} warnings ({', '.join([*shown, *more])}): `{command}` shows them"


def take_batch(
    publisher: Publisher, batch: str, *, drop: Drop, run_id: str, say: Callable[[str], None]
) -> Taken:
    """Read a batch from the drop of the publisher's project and publish it, or say why not.

    Raises `DropChanged` when the drop changes meanwhile, and then nothing was published; other `DropError`s,
    `SourceError`, and what lakeFS raises.
    """

    def progress(stage: str, done: int, of: int) -> None:
        if done == of or done % _SAID_EVERY == 0:
            say(f"{stage} {done:,} of {of:,}")

    project = publisher.project
    place = drop.place(project.project, project.drop.address)
    with drop.read(place, batch, lambda done, of: progress("copied", done, of)) as reading:
        publisher = replace(
            publisher,
            progress=progress,
            metadata={"dagster.run_id": run_id, **_lakefs_link(run_id)},
            check_source=reading.check_unchanged,
        )
        try:
            # Whoever may write to a drop may not have files read that only this user may read.
            stated = Stated(project.drop.format, no_links=True)
            published = publisher.publish(reading.folder, batch, stated, reading.address)
        except BatchRefused as refused:
            say(str(refused))
            return Taken("refused", refused.images, refused.branch, None, refused.findings)
    return Taken(published.outcome, published.images, MAIN, published.commit, published.findings)


def _lakefs_link(run_id: str) -> dict[str, str]:
    """lakeFS's UI shows metadata of this name as a link."""
    return {"::lakefs::Dagster::url[url:ui]": run_tags.run_page(run_id)}
