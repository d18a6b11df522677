"""What a batch takes in memory: some tens of bytes of each column an image, never objects."""

import gc
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests import processes
from tests.dataset.store import SHARES, Repository
from visionops_assets.dataset.batch_plan import BatchRules, OnMain, plan_batch
from visionops_assets.dataset.deduplication import candidate_pairs, near_duplicates
from visionops_assets.dataset.importing.formats.arrays import png_of
from visionops_assets.images import phash

FEW, MANY = 600, 1_500
# The annotations alone, as Parquet wants them, are 170 bytes an image.
MOST_BYTES_AN_IMAGE = 450


def folders(place: Path, count: int) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    for label in "ab":
        (place / label).mkdir(parents=True)
    for number, pixels in enumerate(noise):
        (place / "ab"[number % 2] / f"{number:05}.png").write_bytes(png_of(pixels))
    return place


def table(place: Path, count: int) -> Path:
    folders(place, count)
    lines = (
        f"{'ab'[number % 2]}/{number:05}.png,{'ab'[number % 2]},camera {number // 10},2026-01-01T10:00:00Z,north"
        for number in range(count)
    )
    (place / "labels.csv").write_text("\n".join(["path,label,group,captured_at,line", *lines]))
    return place


def most(source: Path) -> int:
    """The most that an audit takes, in bytes."""
    existing = Repository().rows()
    gc.collect()
    tracemalloc.start()
    try:
        plan = plan_batch(source, "week-1", BatchRules("ab", "defects", SHARES, ""), OnMain(existing))
        assert plan.ok and plan.annotations_bytes()
        assert sum(upload.size for upload in plan.uploads) > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def say_growth(few: Path, many: Path) -> None:
    """Print by how many bytes the audit of the larger batch takes more."""
    # What is bounded is at its bound with few images already.
    phash._PAIRS_AT_ONCE, phash._QUERIES_AT_ONCE = 1 << 8, 64
    near_duplicates._KEPT_IMAGES = 16
    # Some 8,000 images are at most weighed at once, each by 1 kB.
    candidate_pairs._AT_ONCE, candidate_pairs._WEIGHED = 1 << 10, 1 << 8
    # What the first audit imports stays.
    most(few)
    print(most(many) - most(few))


@pytest.mark.slow
@pytest.mark.parametrize("make", [folders, table])
def test_a_larger_batch_takes_hardly_more_memory(tmp_path, make):
    few, many = make(tmp_path / "few", FEW), make(tmp_path / "many", MANY)
    # In a process of its own: what other tests left behind would be counted too.
    ended = processes.run(say_growth, few, many, environment=os.environ, said=tmp_path / "said")
    assert ended.code == 0, ended.said
    assert int(ended.said.split()[-1]) / (MANY - FEW) < MOST_BYTES_AN_IMAGE
