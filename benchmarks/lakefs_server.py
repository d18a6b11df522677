"""The embedded lakeFS beside a real one (recorded numbers) and beside `dvc add` + `dvc push` (in this run).

    python benchmarks/lakefs_server.py [--million] [--no-dvc]

Real lakeFS: version 1.84, single node, local block store, the same work by the same client, on a virtual machine with 2
cores that server and client shared. A ratio above 1 means that the embedded server is ahead. The recorded machine was
otherwise idle: only on an idle one of 2 cores do the ratios say what they seem to.
"""

import argparse
import concurrent.futures as cf
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lakefs_work.bench import memory
from lakefs_work.client import Client
from PIL import Image

from lakefs_local.data_folder import DataFolder, load_keys
from resources.lakefs.client import LakeFSResource
from resources.storage import ArtifactStore
from visionops_assets.config.project import load_project
from visionops_assets.dataset.batch_publishing import Publisher

THREADS = 4
# Images of noise, which are as large as their pixels.
INGESTED, SIDE = 20_000, 32
SYNCS = 100
SECONDS, RATE, MEGABYTES = "s", "/s", "MB"


class Measure(NamedTuple):
    """A line of the table. `ahead`: the factor by which the embedded server must be ahead; `limit`: it stays below."""

    result: str
    name: str
    unit: str
    ahead: float | None = 1.0
    limit: float | None = None


MEASURES = [
    Measure("import_s", "import", SECONDS),
    Measure("upload_per_s", "upload 3 KB", RATE, ahead=2.0),
    Measure("read_per_s", "read", RATE),
    Measure("stat_per_s", "stat", RATE),
    Measure("uncommitted_s", "uncommitted", SECONDS),
    Measure("commit_s", "commit", SECONDS),
    Measure("diff_s", "diff", SECONDS),
    Measure("merge_s", "merge", SECONDS, ahead=None, limit=0.02),
    Measure("list_per_s", "list", RATE),
    Measure("history_slowest_commit_s", "slowest commit", SECONDS, limit=0.3),
    Measure("peak_mb", "memory", MEGABYTES, limit=500),
]
_REAL = """
objects   history  import_s upload_per_s read_per_s stat_per_s uncommitted_s commit_s diff_s merge_s list_per_s \
history_slowest_commit_s peak_mb
10000     0        1.0      330          800        780        0.02          0.05     0.04   0.002   95000      - 350
100000    0        4.0      324          779        771        0.02          0.26     0.22   0.001   85000      - 560
100000    200      -        318          786        754        0.05          0.29     0.16   0.002   80000      0.31 -
1000000   0        43       326          683        749        0.03          1.99     1.79   0.001   84000      - 1060
"""


def real() -> dict[tuple[int, int], dict[str, float]]:
    """What the real server took, by objects and commits before measuring, then by the names of `lakefs_work.bench`."""
    names, *lines = [line.split() for line in _REAL.strip().splitlines()]
    return {
        (int(line[0]), int(line[1])): {
            name: float(value) for name, value in zip(names[2:], line[2:], strict=True) if value != "-"
        }
        for line in lines
    }


class Running(NamedTuple):
    """A server of its own: how to call it, its process, and the arguments that `bench.py` takes for it."""

    client: Client
    pid: int
    arguments: list[str]
    lakefs: LakeFSResource


@contextmanager
def server(folder: Path) -> Iterator[Running]:
    """The embedded server in a process of its own, importing from `folder`."""
    data = DataFolder(folder / "data")
    command = [sys.executable, "-m", "lakefs_local", "serve", "--data", str(data.path), "--port", "0"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([*command, "--import-from", str(folder)], stdout=log, stderr=log)
    try:
        while not data.server.exists():
            if process.poll() is not None:
                raise SystemExit((folder / "server.log").read_text())
            time.sleep(0.02)
        endpoint = json.loads(data.server.read_text())["endpoint"]
        pair = load_keys(data.credentials)[0]
        key = ["--endpoint", endpoint, "--key", pair.access_key_id, f"--secret={pair.secret_access_key}"]
        lakefs = LakeFSResource(
            endpoint=endpoint, access_key_id=pair.access_key_id, secret_access_key=pair.secret_access_key
        )
        yield Running(Client(endpoint, pair.access_key_id, pair.secret_access_key), process.pid, key, lakefs)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(data.path)


def compare(folder: Path, objects: int, history: int) -> bool:
    """Run the shared work and print it beside the real server's; whether every budget was kept."""
    after = f" after {history} commits" if history else ""
    print(f"\n{objects:,} objects{after} ({_conditions(folder)})")
    print(f"  {'':<16}{'here':>12}{'real lakeFS':>14}{'ratio':>9}  budget")
    with server(folder) as running:
        command = [sys.executable, "-m", "lakefs_work.bench", *running.arguments, "--pid", str(running.pid)]
        command += ["--import-dir", str(folder), "--objects", str(objects), "--history", str(history)]
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    told = [
        _told(measure, found, real()[objects, history]) for measure in MEASURES if measure.result in found
    ]
    return all(told)


def _told(measure: Measure, found: dict[str, float], real: dict[str, float]) -> bool:
    here, there = found[measure.result], real.get(measure.result)
    ratio = None if there is None else here / there if measure.unit == RATE else there / here
    kept, wanted = True, []
    if measure.ahead is not None and ratio is not None:
        wanted.append(f"{measure.ahead:g}x")
        kept = ratio >= measure.ahead
    if measure.limit is not None:
        wanted.append(f"below {measure.limit:g} {measure.unit}")
        kept = kept and here < measure.limit
    shown = f"{there:,g} {measure.unit}" if there is not None else "-"
    print(
        f"  {measure.name:<16}{f'{here:,g} {measure.unit}':>12}{shown:>14}"
        f"{f'{ratio:.2f}x' if ratio is not None else '-':>9}  {', '.join(wanted) or '-'}{'' if kept else ': MISSED'}"
    )
    return kept


def ingest(folder: Path) -> None:
    """Take in many small images: `dvc add` + `dvc push`, and here as uploads one by one, as VisionOps uploads them
    (many in a request; both durable), as an import, which leaves the files where they are, and as `visionops import`
    does it: each image looked at, copies searched, all uploaded, published."""
    print(f"\nIngest of {INGESTED:,} files of 3 KB ({_conditions(folder)})")
    source, generator = folder / "files", np.random.default_rng(0)
    for number in range(INGESTED):
        path = source / f"class-{number % 10}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)
    theirs = _dvc(folder, source)
    with server(folder) as running:
        client = running.client
        uploaded, imported = client.create_repository("uploaded"), client.create_repository("imported")
        client.create_repository("together")

        def upload(path: Path) -> None:
            query = {"path": str(path.relative_to(source))}
            client.call("POST", f"{uploaded}/branches/main/objects", query, raw=path.read_bytes())

        def upload_all() -> None:
            with cf.ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(upload, sorted(source.rglob("*.png"))))
            client.call("POST", f"{uploaded}/branches/main/commits", body={"message": "all"})

        def upload_together() -> None:
            files = (
                (str(path.relative_to(source)), path.read_bytes) for path in sorted(source.rglob("*.png"))
            )
            running.lakefs.write_many("together", "main", files)
            running.lakefs.save("together", "main", "all")

        ours = {
            "upload one by one and commit": _seconds(upload_all),
            "upload together and commit": _seconds(upload_together),
            "import": _seconds(lambda: client.import_folder(imported, source, "")),
            "visionops import, audited": _seconds(lambda: _publish(folder, source, running.lakefs)),
        }
        for name, seconds in ours.items():
            ratio = f", {theirs / seconds:.2f}x of dvc's speed" if theirs else ""
            print(f"  {name}: {seconds:.1f} s{ratio}")
        print(f"  memory: at most {memory(running.pid)['peak_mb']} MB")


def _publish(folder: Path, source: Path, lakefs: LakeFSResource) -> None:
    """All that `visionops import` does of images that are copied."""
    classes = ", ".join(sorted(path.name for path in source.iterdir()))
    project = folder / "audited.yaml"
    project.write_text(
        f"project: audited\nrepository: audited\nannotations: defects\nclasses: [{classes}]\n"
        f"recipe:\n  input: {{height: {SIDE}, width: {SIDE}, channels: 3}}\n"
    )
    publisher = Publisher(load_project(project), lakefs, ArtifactStore(root=str(folder / "artifacts")))
    assert publisher.publish(source, "week-1").outcome == "published"


def _dvc(folder: Path, source: Path) -> float | None:
    dvc = shutil.which("dvc") or _install_dvc(folder / "dvc-environment")
    if dvc is None:
        return None
    work = folder / "dvc"
    work.mkdir()
    shutil.copytree(source, work / "files")
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true", "HOME": str(folder)}

    def run(*arguments: str) -> None:
        subprocess.run([dvc, *arguments, "--quiet"], cwd=work, env=environment, check=True)

    run("init", "--no-scm")
    run("remote", "add", "--default", "store", str(folder / "dvc-remote"))
    added, pushed = _seconds(lambda: run("add", "files")), _seconds(lambda: run("push"))
    print(
        f"  dvc add and push: {added + pushed:.1f} s ({added:.1f} and {pushed:.1f}); it syncs nothing to disk"
    )
    return added + pushed


def _install_dvc(environment: Path) -> str | None:
    venv.create(environment, with_pip=True)
    done = subprocess.run(
        [str(environment / "bin" / "pip"), "install", "--quiet", "dvc"], capture_output=True, text=True
    )
    if done.returncode == 0:
        return str(environment / "bin" / "dvc")
    print(
        f"  dvc is not on the PATH and cannot be installed, so it is left out: {done.stderr.strip()[-200:]}"
    )
    return None


def _conditions(folder: Path) -> str:
    """What else the machine does, and how often a second its disk makes something durable: uploads wait for that."""
    file = folder / "synced"
    with file.open("wb", buffering=0) as synced:

        def sync() -> None:
            for _ in range(SYNCS):
                synced.write(bytes(4096))
                os.fsync(synced.fileno())

        rate = SYNCS / _seconds(sync)
    file.unlink()
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {rate:.0f} fsync/s"


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Compare at each size, then ingest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--million", action="store_true", help="also with 1,000,000 objects (minutes, 5 GB of disk)"
    )
    parser.add_argument("--no-dvc", action="store_true", help="leave out the comparison of ingest")
    options = parser.parse_args()
    sizes = [size for size in real() if size[0] < 1_000_000 or options.million]
    print("Real lakeFS: 1.84, recorded on another machine, idle, whose 2 cores server and client shared.")
    with tempfile.TemporaryDirectory() as folder:
        kept = [compare(Path(folder), *size) for size in sizes]
        print(f"\nbudgets: {'all kept' if all(kept) else 'some MISSED'}")
        if not options.no_dvc:
            ingest(Path(folder))


if __name__ == "__main__":
    main()
