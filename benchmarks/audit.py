"""The audit of a batch, and its whole import into the embedded lakeFS in another process: time, and the most memory.

The audit: reading, hashing, decoding, near duplicates, splits and checks. The import adds the upload, or the reference
to the images where they lie, the commit and the merge. Each work and size runs in a process of its own. What the most
memory grows by from the smallest batch of small images to the largest is printed with its budget, and so is what is
left of the rate. Exposures of one scene are the worst that the search for copies can meet: every pair is proposed.

python benchmarks/audit.py [--small 5000 50000] [--large 500] [--scene 5000] [--only-audit]
"""

import argparse
import io
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lakefs_local import discovery
from resources.lakefs.client import LakeFSResource
from resources.storage import ArtifactStore
from visionops_assets.config.project import load_project
from visionops_assets.dataset.batch_plan import BatchRules, OnMain, plan_batch
from visionops_assets.dataset.batch_publishing import Publisher
from visionops_assets.dataset.versions.manifest import Manifest, read_manifest

CLASSES = tuple("abcdefghij")
SHARES = {"train": 0.6, "val": 0.15, "holdout": 0.25}
BUDGETS = {
    ("audit", 5_000, "small"): 2.5,
    ("audit", 50_000, "small"): 25.0,
    ("audit", 500, "large"): 60.0,
    ("audit", 5_000, "scene"): 10.0,
    ("audit", 50_000, "scene"): 100.0,
}
GROWTH_BUDGET = 1.10
RATE_BUDGET = 0.9
FILE = f"""\
project: audited
repository: audited
annotations: defects
classes: [{", ".join(CLASSES)}]
recipe:
  input: {{height: 32, width: 32, channels: 3}}
source_is_immutable: %s
"""


class NoStore:
    """A store without anything in it."""

    def exists(self, key: str) -> bool:
        return False

    def read(self, key: str) -> bytes:
        raise LookupError(key)

    def write_once(self, key: str, content: bytes) -> None:
        raise NotImplementedError


class Took(NamedTuple):
    """Seconds, seconds of processor time, and memory in MiB before and at most."""

    seconds: float
    processor: float
    before: float
    peak: float


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


def write_scene(folder: Path, count: int, side: int, noise: float = 3.5) -> None:
    """Exposures of one part under one camera that shakes by a pixel; every second part has a scratch."""
    generator = np.random.default_rng(1)
    part = Image.new("L", (side, side), 70)
    draw = ImageDraw.Draw(part)
    draw.ellipse([side * 0.16, side * 0.16, side * 0.84, side * 0.84], fill=170)
    draw.ellipse([side * 0.38, side * 0.38, side * 0.62, side * 0.62], fill=60)
    part = part.filter(ImageFilter.GaussianBlur(1.2))
    for label in CLASSES[:2]:
        (folder / label).mkdir(parents=True)
    for number in range(count):
        exposed = part.copy()
        if number % 2:
            start = generator.integers(side // 4, side * 3 // 4, 2)
            end = start + generator.integers(-side // 8, side // 8, 2)
            ImageDraw.Draw(exposed).line([*start.tolist(), *end.tolist()], fill=40, width=2)
        seen = np.roll(np.asarray(exposed, np.float64), generator.integers(-1, 2, 2), (0, 1))
        seen = seen * generator.uniform(0.97, 1.03) + generator.normal(0, noise, seen.shape)
        image = Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))
        image.save(folder / CLASSES[number % 2] / f"{number:06}.png", compress_level=1)


def audit(root: Path) -> Callable[[], None]:
    """The audit against an empty `main`."""
    empty = read_manifest(Manifest(()), NoStore())

    def work() -> None:
        assert plan_batch(
            root / "batch", "week-1", BatchRules(CLASSES, "defects", SHARES, ""), OnMain(empty)
        ).ok

    return work


def upload(root: Path) -> Callable[[], None]:
    """The import of copies."""
    return _import(root, immutable=False)


def refer(root: Path) -> Callable[[], None]:
    """The import of references."""
    return _import(root, immutable=True)


def _import(root: Path, immutable: bool) -> Callable[[], None]:
    (root / "audited.yaml").write_text(FILE % str(immutable).lower())
    server = discovery.ensure_running(root / "lakefs", import_from=[root])
    lakefs = LakeFSResource(
        endpoint=server.endpoint,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )
    publisher = Publisher(
        load_project(root / "audited.yaml"), lakefs, ArtifactStore(root=str(root / "artifacts"))
    )
    lakefs.create_repository("audited")

    def work() -> None:
        assert publisher.publish(root / "batch", "week-1").outcome == "published"

    return work


def measure(
    prepare: Callable[[Path], Callable[[], None]], root: Path, results: "multiprocessing.Queue[Took]"
) -> None:
    """Do the work once."""
    work = prepare(root)
    before, started, spent = _peak(), time.perf_counter(), time.process_time()
    work()
    results.put(Took(time.perf_counter() - started, time.process_time() - spent, before, _peak()))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(
    title: str,
    kind: str,
    works: Mapping[str, Callable[[Path], Callable[[], None]]],
    count: int,
    side: int,
    suffix: str,
) -> dict[str, Took]:
    """Each work on a batch of this size, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for name, prepare in works.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            if kind == "scene":
                write_scene(root / "batch", count, side)
            else:
                write_batch(root / "batch", count, side, side, suffix)
            results: multiprocessing.Queue[Took] = context.Queue()
            process = context.Process(target=measure, args=(prepare, root, results))
            process.start()
            found[name] = took = results.get()
            process.join()
            discovery.stop(root / "lakefs")
        most = BUDGETS.get((name, count, kind))
        verdict = "" if most is None else f"{'ok' if took.seconds <= most else 'MISS'}, at most {most:g} s"
        print(
            f"| {name} | {count:,} {title} | {took.seconds:.1f} s | {took.processor:.1f} s | "
            f"{count / took.seconds:,.0f} | {took.before:,.0f} | {took.peak:,.0f} | {verdict} |",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", type=int, nargs="*", default=[5_000, 50_000])
    parser.add_argument("--large", type=int, nargs="*", default=[500])
    parser.add_argument("--scene", type=int, nargs="*", default=[5_000])
    parser.add_argument("--only-audit", action="store_true", help="leave the imports out")
    given = parser.parse_args()
    works = {"audit": audit} | ({} if given.only_audit else {"import": upload, "import by reference": refer})
    print("| work | batch | time | of a processor | images/s | MiB before | MiB at most | budget |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    small = {
        count: run("PNG of 32×32", "small", works, count, 32, "png") for count in sorted(set(given.small))
    }
    for count in given.large:
        run("JPEG of 1024×1024", "large", {"audit": audit}, count, 1024, "jpg")
    for count in given.scene:
        run("exposures of 128×128", "scene", {"audit": audit}, count, 128, "png")
    if len(small) > 1:
        least, most = min(small), max(small)
        for name in works:
            one, other = small[least][name].peak, small[most][name].peak
            each = (other - one) * 2**20 / (most - least)
            kept = "ok" if other <= GROWTH_BUDGET * one else "MISS"
            print(
                f"{name}: {other / one:.2f} of the memory of {least:,} images for {most:,}, {each:,.0f} bytes an "
                f"image ({kept}, at most {GROWTH_BUDGET:g})"
            )
            # Of the processor, since another program may have had it for a while.
            rates = [count / small[count][name].processor for count in (least, most)]
            kept = "ok" if rates[1] >= RATE_BUDGET * rates[0] else "MISS"
            print(f"{name}: {rates[1] / rates[0]:.2f} of its rate ({kept}, at least {RATE_BUDGET:g})")


if __name__ == "__main__":
    main()
