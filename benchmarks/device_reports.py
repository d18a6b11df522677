"""An hour's reports of a thousand devices through the real collector, 5% of them forged, replayed or foreign: processor
seconds of the collector and the process that reads (budget: 60), without lakeFS, which is another service.

    python benchmarks/device_reports.py [--devices 1000] [--rows 6]

Prints the measure beside its budget, and what was counted; exit code 1 where it is missed, or where a wrong report
counted or went unnamed.
"""

import argparse
import gzip
import hashlib
import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "monitoring")]

BUDGET = 60.0
REPORTS = 12
WRONG = 20  # One in so many.


def cpu() -> float:
    """Processor seconds of this process and of children that have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def rows_of(device: str, start: datetime, count: int) -> Iterator[dict[str, Any]]:
    """Rows as a device logs them, a second apart."""
    from edge.images.statistics import STATISTICS

    for number in range(count):
        digest = hashlib.sha256(f"{device} {start} {number}".encode()).hexdigest()
        yield {
            "timestamp": start + timedelta(seconds=number),
            "device": device,
            "device_group": "line-1",
            "model_sha256": "a" * 64,
            "image_sha256": digest,
            "prediction": "circle",
            "confidence": 0.9,
            "probabilities": [0.9, 0.06, 0.04],
            **{name: int(digest[:6], 16) / 1e7 for name in STATISTICS},
            "embedding": [int(digest[part : part + 2], 16) / 255 for part in range(32)],
        }


def main() -> int:
    """Measure."""
    from logged import project
    from signed import Camera

    from lakefs_local import discovery
    from resources.lakefs.client import LakeFSResource
    from resources.storage import ArtifactStore, Spool
    from visionops_assets.delivery import reported_devices as fleet
    from visionops_assets.monitoring.collection import collect, collect_all
    from visionops_assets.monitoring.spool_files import spool_reader

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=6)
    asked = parser.parse_args()
    now = datetime.now(UTC).replace(microsecond=0)
    cameras = [Camera(f"cam-{number:04d}") for number in range(asked.devices)]
    enrolled = {each.name: each.known() for each in cameras}
    with tempfile.TemporaryDirectory() as folder, discovery.serving(Path(folder) / "lakefs") as server:
        spool = Path(folder) / "spool" / "shapes"
        good = wrong = replayed = total = 0
        for camera in cameras:
            (spool / camera.name).mkdir(parents=True)
            thief = Camera(camera.name, seed=1)
            for number in range(REPORTS):
                start = now - timedelta(minutes=5 * (REPORTS - number))
                own = list(rows_of(camera.name, start, asked.rows))
                content = camera.report(number + 1, own, start)
                name, total = camera.file(number + 1), total + 1
                if total % WRONG == 0:
                    kind = total // WRONG % 3
                    if kind == 0:
                        content = thief.report(number + 1, own, start)
                    elif kind == 1:
                        content = gzip.compress(gzip.decompress(content).replace(b"circle", b"square"))
                    else:
                        # An older one once more, by another name, or where there is none its neighbour's.
                        content = (spool.parent / "shapes" / camera.file(max(1, number))).read_bytes()
                    wrong += 1
                    replayed += kind == 2
                else:
                    good += 1
                (spool.parent / "shapes" / name).write_bytes(content)
        lakefs = LakeFSResource(
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
        began, step = cpu(), 0

        def once() -> Any:
            nonlocal step
            step += 1
            return collect(
                project(since=f"{now - timedelta(days=9):%Y-%m-%d}"),
                lakefs=lakefs,
                spool=Spool(root=str(spool.parent)),
                lock=nullcontext(),
                now=now + timedelta(milliseconds=step),
                devices=lambda: enrolled,
            )

        found = collect_all(once, 3600)
        store = ArtifactStore(root=str(Path(folder) / "artifacts"))
        table = fleet.folded(project(), lakefs, store)
        spool_reader().end()
        used = cpu() - began
    counted, named = sum(each.reports for each in found), sum(len(each.findings) for each in found)
    rows = sum(each.rows for each in found)
    print(f"{total:,} reports of {asked.devices:,} devices, {rows:,} rows, in {len(found)} commits")
    print(f"{used:.1f} s of processor time, budget {BUDGET:g} s: {used / BUDGET:.2f} of it")
    print(f"{wrong:,} wrong ({replayed:,} replayed): {counted - good} counted, {named:,} named")
    print(json.dumps({"cpu_seconds": round(used, 2), "ratio": round(used / BUDGET, 3)}))
    right = counted == good and rows == good * asked.rows and named == wrong and len(table) == asked.devices
    return 0 if right and used <= BUDGET * asked.devices / 1000 else 1


if __name__ == "__main__":
    sys.exit(main())
