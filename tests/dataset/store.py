"""The store and lakeFS of the tests: dictionaries."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa

from visionops_assets.config.project import AuditRules
from visionops_assets.dataset.batch_plan import AUDIT_RULES, BatchPlan, BatchRules, OnMain, plan_batch
from visionops_assets.dataset.versions.manifest import (
    AnnotationsFile,
    Manifest,
    build_manifest,
    manifest_frame,
    read_manifest,
)

SHARES = {"train": 0.6, "val": 0.15, "holdout": 0.25}


class MemoryStore:
    """What `manifest.Store` asks for."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def exists(self, key: str) -> bool:
        return key in self.contents

    def read(self, key: str) -> bytes:
        return self.contents[key]

    def write_once(self, key: str, content: bytes) -> None:
        self.contents.setdefault(key, content)


class Repository:
    """The objects on `main`, to plan batches against and to publish them to."""

    def __init__(self, classes: tuple[str, ...] = ("a", "b")) -> None:
        self.classes = classes
        self.objects: dict[str, bytes] = {}
        self.store = MemoryStore()

    def fetch(self, paths: list[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            yield path, self.objects[path]

    def manifest(self) -> Manifest:
        files = [
            AnnotationsFile(path, hashlib.md5(data).hexdigest())
            for path, data in self.objects.items()
            if path.endswith("annotations/defects.parquet")
        ]
        return build_manifest(files, self.fetch, self.store)

    def rows(self) -> pa.Table:
        return read_manifest(self.manifest(), self.store)

    def samples(self) -> pd.DataFrame:
        return manifest_frame(self.rows())

    def plan(
        self,
        source: Path,
        batch: str,
        shares: Mapping[str, float] = SHARES,
        audit: AuditRules = AUDIT_RULES,
        **options: object,
    ) -> BatchPlan:
        return plan_batch(
            source,
            batch,
            BatchRules(self.classes, "defects", shares, "salt", audit),
            OnMain(self.rows(), self.fetch),
            **options,  # type: ignore[arg-type]
        )

    def publish(self, plan: BatchPlan) -> None:
        assert plan.ok, plan.findings.to_string()
        self.objects = {
            path: data for path, data in self.objects.items() if not path.startswith(f"batches/{plan.batch}/")
        }
        self.objects |= {upload.path: upload.read() for upload in plan.uploads}
        self.objects[plan.annotations_path] = plan.annotations_bytes()
