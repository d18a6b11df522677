"""Manifests on metadata alone: what a commit with 1,000 changes costs, and comparing and querying at that size.

The changes are either one new batch of 1,000 samples, or one relabelled sample in each of 1,000 places spread over
all batches, which touches every fragment. Near duplicates: 1,000 new pHashes against all there are.

    python benchmarks/manifest.py [--samples 60000 1000000]
"""

import argparse
import hashlib
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from visionops_assets.dataset.versions.annotations import write_annotations
from visionops_assets.dataset.versions.layout import annotations_path
from visionops_assets.dataset.versions.manifest import (
    AnnotationsFile,
    Manifest,
    build_manifest,
    manifest_frame,
    read_manifest,
)
from visionops_assets.dataset.versions.manifest_diff import diff_manifests
from visionops_assets.images.phash import PhashIndex, phash_values

CHANGES = 1_000
BUDGETS = {(60_000, "new batch: manifest"): 1.0, (60_000, "spread: manifest"): 1.0}


class FolderStore:
    """Files by key."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write_once(self, key: str, content: bytes) -> None:
        path = self.root / key
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Commit:
    """Annotations files by path."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def put(self, batch: str, samples: int, seed: int, relabelled: int = 0) -> None:
        """A batch; the labels of its first `relabelled` samples are others than without."""
        generator = np.random.default_rng(seed)
        raw = generator.bytes(40 * samples)
        digests = [hashlib.sha256(raw[i : i + 40]).hexdigest() for i in range(0, len(raw), 40)]
        labels = generator.integers(0, 10, samples)
        labels[:relabelled] = (labels[:relabelled] + 1) % 10
        file = annotations_path(batch, "defects")
        table = pa.table(
            {
                "path": [f"batches/{batch}/images/{i:07}.png" for i in range(samples)],
                "sha256": digests,
                "phash": [digest[:16] for digest in digests],
                "width": np.full(samples, 32, np.int32),
                "height": np.full(samples, 32, np.int32),
                "size": np.full(samples, 900),
                "split": np.array(["train", "val", "holdout"])[
                    generator.choice(3, samples, p=[0.6, 0.15, 0.25])
                ],
                "label": [f"class {label}" for label in labels],
            }
        )
        self.contents[file] = write_annotations(table, file)

    @property
    def files(self) -> list[AnnotationsFile]:
        return [AnnotationsFile(path, hashlib.md5(data).hexdigest()) for path, data in self.contents.items()]

    def fetch(self, paths: list[str]) -> Iterator[tuple[str, bytes]]:
        return ((path, self.contents[path]) for path in paths)


class Clock:
    """Prints what a step took, and what it may."""

    def __init__(self, samples: int) -> None:
        self.samples, self._since = samples, time.perf_counter()

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self, name: str) -> None:
        took = time.perf_counter() - self._since
        most = BUDGETS.get((self.samples, name))
        verdict = "" if most is None else f" ({'ok' if took <= most else 'MISS'}, at most {most:g} s)"
        print(f"| {name} | {took:.3f} s |{verdict}")


def run(samples: int, root: Path) -> None:
    batches = max(1, samples // 1000 if samples <= 100_000 else samples // 10_000)
    commit, store, clock = Commit(), FolderStore(root), Clock(samples)
    for number in range(batches):
        commit.put(f"b{number:04}", samples // batches, number)
    print(f"\n{samples:,} samples in {batches} batches\n| step | time |\n| --- | ---: |")
    clock.start()
    first = build_manifest(commit.files, commit.fetch, store)
    clock.stop("first manifest")
    clock.start()
    frame = manifest_frame(read_manifest(first, store))
    clock.stop("read as a table")
    commit.put("new", CHANGES, 10**6)
    new = after(commit, first, store, clock, "new batch")
    for number in range(batches):
        commit.put(f"b{number:04}", samples // batches, number, relabelled=CHANGES // batches)
    after(commit, new, store, clock, "spread")
    phashes = phash_values(list(frame["phash"]))
    clock.start()
    index = PhashIndex(phashes)
    found = sum(len(part.query) for part in index.near(phashes[:CHANGES]))
    clock.stop("near-duplicate query")
    assert found >= CHANGES
    print(f"peak memory so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


def after(commit: Commit, before: Manifest, store: FolderStore, clock: Clock, name: str) -> Manifest:
    files = commit.files
    clock.start()
    manifest = build_manifest(files, commit.fetch, store)
    clock.stop(f"{name}: manifest")
    clock.start()
    diff = diff_manifests(before, manifest, store)
    clock.stop(f"{name}: diff")
    assert len(diff.added) + len(diff.relabelled) >= CHANGES * 0.9
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, nargs="+", default=[60_000, 1_000_000])
    for samples in parser.parse_args().samples:
        with tempfile.TemporaryDirectory() as root:
            run(samples, Path(root))


if __name__ == "__main__":
    main()
