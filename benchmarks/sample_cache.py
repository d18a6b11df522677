"""Keeping the sample cache fresh: a full build, 2% of new images, nothing new, and opening a version's view.

Each is timed on its own copy of the cache in every round; ratios are medians over the rounds.

    python benchmarks/sample_cache.py [--images 20000] [--rounds 3]
"""

import argparse
import hashlib
import io
import shutil
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from timing import seconds

from visionops_assets.dataset.cache.sample_cache import SampleCache

SHAPE = (32, 32, 3)
BUDGETS = {"2% new": 0.05, "nothing new": 0.01}


def make_images(count: int) -> dict[str, bytes]:
    """PNG files of 32×32 by path."""
    generator = np.random.default_rng(0)
    contents = {}
    for number in range(count):
        coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize(SHAPE[:2], Image.Resampling.BICUBIC).save(buffer, "PNG")
        contents[f"batches/a/images/{number:06}.png"] = buffer.getvalue()
    return contents


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    contents = make_images(given.images)
    wanted = [(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in contents.items()]
    sha256s = [sha256 for _, sha256, _ in wanted]
    old = wanted[: int(given.images * 0.98)]
    times: dict[str, list[float]] = {"full build": [], "2% new": [], "nothing new": [], "open a view": []}

    def fetch(paths: list[str]):
        return ((path, contents[path]) for path in paths)

    with tempfile.TemporaryDirectory() as root:
        before = Path(root) / "before"
        SampleCache(before, *SHAPE).fill(old, fetch)
        for number in range(given.rounds):
            full = SampleCache(Path(root) / "full", *SHAPE)
            times["full build"].append(seconds(partial(full.fill, wanted, fetch)).wall)
            shutil.rmtree(Path(root) / "full")
            cache = SampleCache(shutil.copytree(before, Path(root) / f"round-{number}"), *SHAPE)
            times["2% new"].append(seconds(partial(cache.fill, wanted, fetch)).wall)
            times["nothing new"].append(seconds(partial(cache.fill, wanted, fetch)).wall)
            times["open a view"].append(seconds(partial(cache.view, sha256s)).wall)
    print(f"{given.images:,} PNG of 32×32\n| step | ms | of a full build |\n| --- | ---: | ---: |")
    for name, found in times.items():
        ratio = statistics.median(one / full for one, full in zip(found, times["full build"], strict=True))
        print(f"| {name} | {1000 * statistics.median(found):,.1f} | {ratio:.4f} |")
        if name in BUDGETS:
            print(
                f"{'ok  ' if ratio <= BUDGETS[name] else 'MISS'} {name}: {ratio:.4f} (at most {BUDGETS[name]})"
            )


if __name__ == "__main__":
    main()
