"""One batch of generated JPEGs from the drop to a verdict: what each stage takes, and the most memory while it runs.

The baseline of the same run is decoding every image once with Pillow, one after the other. Beside it, what lakeFS
takes to import objects where they lie (budget: 60,000 in 15 s), against copying the same files.

    python benchmarks/data_path.py [--images 5000] [--side 512] [--objects 60000]
"""

import argparse
import io
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

PROJECT = "photographs"
CLASSES = ("blank", "dots", "lines", "rings", "waves")
IMPORT_BUDGET = {60_000: 15.0}
FILE = f"""\
project: {PROJECT}
repository: {PROJECT}
annotations: {PROJECT}
classes: [{", ".join(CLASSES)}]
recipe:
  input: {{height: 64, width: 64, channels: 3}}
  epochs: 3
  batch_size: 64
  threads: 2
gate:
  floors: {{overall: 0.2, batch: 0.2}}
"""


def write_photographs(folder: Path, count: int, side: int) -> None:
    """JPEGs with shapes, shades and noise; a folder for each class; the marker last."""
    generator = np.random.default_rng(0)
    across, down = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    for number in range(count):
        label = CLASSES[number % len(CLASSES)]
        rate, turn = generator.uniform(5, 12), generator.uniform(0, 6)
        match label:
            case "dots":
                shape = np.cos(rate * across + turn) * np.cos(rate * down + turn)
            case "lines":
                shape = np.cos(rate * (across + down) + turn)
            case "rings":
                shape = np.cos(2 * rate * np.hypot(across, down) + turn)
            case "waves":
                shape = np.cos(rate * across + 3 * np.sin(3 * down + turn))
            case _:
                shape = np.zeros_like(across)
        ground = Image.fromarray(generator.integers(40, 215, (6, 6, 3), dtype=np.uint8))
        shades = np.asarray(ground.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        noisy = shades + 30 * shape[..., None] + generator.normal(0, 6, (side, side, 1))
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        image.save(folder / label / f"{number:06}.jpg", quality=88)
    (folder / "_SUCCESS").touch()


class Memory:
    """This process's memory in MiB, looked at ten times a second."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._stop = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look while the context lasts."""
        process = psutil.Process()

        def look() -> None:
            while not self._stop.wait(0.1):
                self.samples.append((time.time(), process.memory_info().rss / 2**20))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        yield
        self._stop.set()
        watcher.join()

    def most(self, start: float, end: float) -> float:
        """The most between two times; NaN where nobody looked."""
        return max((mib for when, mib in self.samples if start <= when <= end), default=float("nan"))


def through_everything(root: Path, images: int, side: int) -> None:
    """Drop, audit, publish, cache, training, gate."""
    os.environ.update(VISIONOPS_HOME=str(root / "home"), VISIONOPS_PROJECTS=str(root / "projects"))
    for name in ("DAGSTER_HOME", "LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "VISIONOPS_DROP"):
        os.environ.pop(name, None)
    (root / "projects").mkdir()
    (root / "projects" / f"{PROJECT}.yaml").write_text(FILE)
    batch = root / "home" / "drop" / PROJECT / "week-01"
    write_photographs(batch, images, side)
    size = sum(path.stat().st_size for path in batch.rglob("*.jpg"))
    started = time.perf_counter()
    for path in batch.rglob("*.jpg"):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
    pillow = time.perf_counter() - started
    print(
        f"{images:,} JPEG of {side}×{side}, {size / 2**20:,.0f} MiB; Pillow reads all once in {pillow:.1f} s"
    )

    from visionops import bootstrap

    bootstrap.prepare()
    import dagster as dg

    import definitions
    from lakefs_local import discovery
    from visionops.tick import tick

    memory = Memory()
    try:
        with dg.DagsterInstance.get() as instance, memory.watched():
            ticks = tick(definitions.defs, instance, definitions.projects)
            report(instance, [found.run_id for found in ticks if found.run_id], memory, pillow)
        for found in ticks:
            print(f"{found.partition}: {found.outcome}: {found.reason.splitlines()[0]}")
        if any(found.outcome == "error" for found in ticks):
            raise SystemExit("a run ended with an error")
    finally:
        discovery.stop(root / "home" / "lakefs")


def report(instance: object, run_ids: list[str], memory: Memory, pillow: float) -> None:
    """A row for each step, from the event log."""
    print("| stage | seconds | of reading with Pillow | MiB at most |\n| --- | ---: | ---: | ---: |")
    for run_id in run_ids:
        started: dict[str, float] = {}
        for entry in instance.all_logs(run_id):  # type: ignore[attr-defined]
            event = entry.dagster_event
            if event is None or event.step_key is None:
                continue
            if event.event_type_value == "STEP_START":
                started[event.step_key] = entry.timestamp
            elif event.event_type_value in ("STEP_SUCCESS", "STEP_FAILURE") and event.step_key in started:
                begun, ended = started[event.step_key], entry.timestamp
                stage = event.step_key.removeprefix(f"{PROJECT}__")
                took, mib = ended - begun, memory.most(begun, ended)
                print(f"| {stage} | {took:.1f} | {took / pillow:.2f} | {mib:,.0f} |")


def importing(root: Path, objects: int) -> None:
    """Objects of 3 KB imported where they lie, against a copy of their folder."""
    from lakefs_local import discovery
    from resources.lakefs.client import LakeFSResource

    source = root / "objects"
    for number in range(objects):
        if number % 1000 == 0:
            (source / f"{number // 1000:04}").mkdir(parents=True)
        (source / f"{number // 1000:04}" / f"{number:06}.png").write_bytes(number.to_bytes(4, "big") * 768)
    started = time.perf_counter()
    shutil.copytree(source, root / "copy")
    copied = time.perf_counter() - started
    with discovery.serving(root / "lakefs", import_from=[source]) as server:
        lakefs = LakeFSResource(
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
        lakefs.create_repository("objects")
        started = time.perf_counter()
        lakefs.import_folder("objects", "main", f"local://{source}/", "batches/a/images/", "import", {})
        took = time.perf_counter() - started
        there = sum(1 for _ in lakefs.objects("objects", "main", "batches/a/images/"))
    if there != objects:
        raise SystemExit(f"{there} of {objects} objects were imported")
    most = IMPORT_BUDGET.get(objects)
    verdict = "" if most is None else f" ({'ok' if took <= most else 'MISS'}, at most {most:g} s)"
    print(f"import of {objects:,} objects: {took:.1f} s, {took / copied:.2f} of copying them{verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--objects", type=int, default=60_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        through_everything(Path(root), given.images, given.side)
    with tempfile.TemporaryDirectory() as root:
        importing(Path(root), given.objects)


if __name__ == "__main__":
    main()
