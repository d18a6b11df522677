"""The audit of a batch: reading, hashing, decoding, near duplicates, splits and checks, each size in its own process.

python benchmarks/audit.py [--small 5000 50000] [--large 500]
"""

import argparse
import io
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from visionops_assets.dataset.ingest import plan_batch
from visionops_assets.dataset.manifest import Manifest, manifest_frame, read_manifest

CLASSES = tuple("abcdefghij")
SHARES = {"train": 0.6, "val": 0.15, "holdout": 0.25}
BUDGETS = {(5_000, "small"): 20.0, (500, "large"): 60.0}


class NoStore:
    """A store without anything in it."""

    def exists(self, key: str) -> bool:
        return False

    def read(self, key: str) -> bytes:
        raise LookupError(key)

    def write_once(self, key: str, content: bytes) -> None:
        raise NotImplementedError


def write_batch(folder: Path, count: int, height: int, width: int, suffix: str) -> None:
    """A folder for each class; shapes and noise as in photographs."""
    generator = np.random.default_rng(0)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    for number in range(count):
        coarse = generator.integers(0, 256, (max(4, height // 32), max(4, width // 32), 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if suffix == "png" else "JPEG", quality=90)
        (folder / CLASSES[number % 10] / f"{number:06}.{suffix}").write_bytes(buffer.getvalue())


def audit(folder: Path, results: "multiprocessing.Queue[tuple[float, float, float]]") -> None:
    """Seconds, and memory in MiB before and at most, of one audit."""
    empty = manifest_frame(read_manifest(Manifest(()), NoStore()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    plan = plan_batch(folder, "week-1", CLASSES, "defects", empty, SHARES, "")
    took = time.perf_counter() - started
    assert plan.ok
    results.put((took, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def run(title: str, kind: str, count: int, height: int, width: int, suffix: str) -> None:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as root:
        write_batch(Path(root) / "batch", count, height, width, suffix)
        results = context.Queue()
        process = context.Process(target=audit, args=(Path(root) / "batch", results))
        process.start()
        took, before, peak = results.get()
        process.join()
    most = BUDGETS.get((count, kind))
    verdict = "" if most is None else f"{'ok' if took <= most else 'MISS'}, at most {most:g} s"
    print(
        f"| {count:,} {title} | {took:.1f} s | {count / took:,.0f} | {before:,.0f} | {peak:,.0f} | {verdict} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", type=int, nargs="*", default=[5_000, 50_000])
    parser.add_argument("--large", type=int, nargs="*", default=[500])
    given = parser.parse_args()
    print(
        "| batch | time | images/s | MiB before | MiB at most | budget |\n| --- | ---: | ---: | ---: | ---: | --- |"
    )
    for count in given.small:
        run("PNG of 32×32", "small", count, 32, 32, "png")
    for count in given.large:
        run("JPEG of 1024×1024", "large", count, 1024, 1024, "jpg")


if __name__ == "__main__":
    main()
