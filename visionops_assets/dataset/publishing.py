"""Write, audit, publish: a batch is imported on a branch of its own and merged only if its checks pass.

The branch is `ingest-<batch>`. A refused batch's branch stays, with its findings as a file and in its commit. Killed
anywhere, the import is run again: it starts from a fresh branch, and `main` has all of a batch or nothing of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from resources.artifact_store import ArtifactStore
from resources.lakefs import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSConflict
from visionops_assets.dataset.findings import findings_in_words
from visionops_assets.dataset.ingest import BatchPlan, plan_batch
from visionops_assets.dataset.layout import BATCHES
from visionops_assets.dataset.manifest import manifest_frame, read_manifest
from visionops_assets.dataset.version import manifest_at
from visionops_assets.project import Project

ATTEMPTS = 5
Progress = Callable[[str, int, int], None]


class BatchRefused(ValueError):
    """A batch whose checks found errors; `main` is as it was."""


@dataclass(frozen=True)
class Published:
    """What came of a batch. `commit` is the merge on `main`; None where nothing had to change."""

    batch: str
    outcome: Literal["published", "unchanged"]
    images: int
    commit: str | None
    findings: pd.DataFrame


@dataclass(frozen=True)
class Publisher:
    """Imports batches of one project. `progress` hears (stage, done, of)."""

    project: Project
    lakefs: LakeFSResource
    artifacts: ArtifactStore
    progress: Progress = lambda stage, done, of: None
    metadata: dict[str, str] = field(default_factory=dict)

    def publish(self, source: Path, batch: str, format_name: str | None = None) -> Published:
        """Import, check and merge a batch.

        Importing the same batch again changes nothing; a corrected one replaces it. Where `main` moves meanwhile,
        the batch is audited against it again. Raises `BatchRefused` with the findings in words, `SourceError`, and
        what lakeFS raises.
        """
        repository = self.project.repository
        self.lakefs.create_repository(repository)
        for _ in range(ATTEMPTS):
            base = self.lakefs.head(repository, MAIN).id
            plan = self._plan(source, batch, base, format_name)
            if plan.ok and self._is_published(plan, base):
                return Published(batch, "unchanged", len(plan.uploads), None, plan.findings)
            branch = self._write(plan, base)
            if not plan.ok:
                raise BatchRefused(
                    f"batch {batch} is refused, {MAIN} is as it was:\n{findings_in_words(plan.findings)}\n"
                    f"It lies on branch {branch} of {repository}. Correct it and import it again."
                )
            if self.lakefs.head(repository, MAIN).id != base:
                continue
            try:
                merged = self.lakefs.merge(
                    repository, branch, MAIN, f"Publish batch {batch}", self._facts(plan)
                )
            except LakeFSConflict:
                continue
            self.lakefs.delete_branch(repository, branch)
            return Published(batch, "published", len(plan.uploads), merged, plan.findings)
        raise LakeFSConflict(
            f"{repository}/{MAIN} moved {ATTEMPTS} times while batch {batch} was imported: import it again"
        )

    def _plan(self, source: Path, batch: str, base: str, format_name: str | None) -> BatchPlan:
        project, repository = self.project, self.project.repository
        existing = read_manifest(manifest_at(self.lakefs, self.artifacts, project, base), self.artifacts)
        return plan_batch(
            source,
            batch,
            project.classes,
            project.annotations,
            manifest_frame(existing),
            project.splits.shares(),
            project.splits.salt,
            format_name=format_name,
            read_existing=lambda paths: self.lakefs.read_many(repository, base, paths),
            progress=lambda done, of: self.progress("checked", done, of),
        )

    def _is_published(self, plan: BatchPlan, base: str) -> bool:
        repository = self.project.repository
        there = {entry.path for entry in self.lakefs.objects(repository, base, f"{BATCHES}{plan.batch}/")}
        if there != {plan.annotations_path, *(upload.path for upload in plan.uploads)}:
            return False
        return self.lakefs.read(repository, base, plan.annotations_path) == plan.annotations_bytes()

    def _write(self, plan: BatchPlan, base: str) -> str:
        """Everything of a batch on a fresh branch, committed."""
        repository, branch = self.project.repository, f"ingest-{plan.batch}"
        self.lakefs.delete_branch(repository, branch)
        self.lakefs.create_branch(repository, branch, base)
        there = {
            entry.path: entry.size
            for entry in self.lakefs.objects(repository, branch, f"{BATCHES}{plan.batch}/")
        }
        self.lakefs.delete_many(repository, branch, sorted(there.keys() - {one.path for one in plan.uploads}))
        self.lakefs.write_many(
            repository,
            branch,
            ((one.path, one.read) for one in plan.uploads),
            lambda done: self.progress("uploaded", done, len(plan.uploads)),
        )
        self.lakefs.write(repository, branch, plan.annotations_path, plan.annotations_bytes())
        if not plan.ok:
            findings = plan.findings.to_csv(index=False).encode()
            self.lakefs.write(repository, branch, f"findings/{plan.batch}.csv", findings)
        self.lakefs.save(repository, branch, f"Import batch {plan.batch}", self._facts(plan))
        return branch

    def _facts(self, plan: BatchPlan) -> dict[str, str]:
        errors = int((plan.findings["severity"] == "ERROR").sum())
        return {
            "visionops.project": self.project.project,
            "visionops.batch": plan.batch,
            "visionops.format": plan.format,
            "visionops.images": str(len(plan.uploads)),
            "visionops.errors": str(errors),
            "visionops.warnings": str(len(plan.findings) - errors),
            **self.metadata,
        }
