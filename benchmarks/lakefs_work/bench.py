"""Time the lakeFS API of a server: the same work, whichever server answers.

    cd benchmarks && python -m lakefs_work.bench --endpoint URL --key K --secret S --import-dir DIR [--objects N]
        [--history COMMITS] [--pid PID]

One JSON line: seconds, rates, and with the server's `--pid` its resident memory and peak (MB). `DIR`: a folder that the
server may import from; what is imported is made there, and used again by the next run.
"""

import argparse
import concurrent.futures as cf
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lakefs_work.client import Client

SIZE, THREADS, CHANGES, HISTORY_CHANGES = 3072, 4, 1000, 100


class Bench:
    """The work on one new repository, and how long each piece of it took."""

    def __init__(self, client: Client, imports: Path, objects: int):
        self.client, self.objects = client, objects
        self.results: dict[str, float] = {"objects": objects}
        self.source = _files(imports / f"bench-{objects}", objects)
        self.repository = client.create_repository("bench-" + uuid.uuid4().hex[:8])
        step = max(1, objects // CHANGES)
        self.paths = [f"data/{i // 1000:04d}/{i:07d}.bin" for i in range(0, objects, step)][:CHANGES]
        self.content = os.urandom(SIZE)

    def run(self, history: int) -> None:
        """Import, then change 1,000 objects spread over the whole tree, and read, compare, merge and list."""
        client, repository = self.client, self.repository
        week = {"name": "week", "source": "main"}
        self._timed("import_s", lambda: client.import_folder(repository, self.source, "data/"))
        self._timed("branch_s", lambda: client.call("POST", f"{repository}/branches", body=week))
        with cf.ThreadPoolExecutor(THREADS) as pool:

            def all_of(work: Callable[[Any], object], items: Iterable[Any]) -> None:
                list(pool.map(work, items))

            if history:
                self._make_history(history, all_of)
                client.call("DELETE", f"{repository}/branches/week")
                client.call("POST", f"{repository}/branches", body=week)
            self._timed("upload_s", lambda: all_of(self._upload, range(len(self.paths))))
            self._counted("uncommitted_s", f"{repository}/branches/week/diff", len(self.paths))
            self._timed("commit_s", lambda: self._commit("week", "week"))
            self._counted("diff_s", f"{repository}/refs/main/diff/week", len(self.paths))
            self._timed("read_s", lambda: all_of(self._get("objects"), self.paths))
            self._timed("stat_s", lambda: all_of(self._get("objects/stat"), self.paths))
        merge = f"{repository}/refs/week/merge/main"
        self._timed("merge_s", lambda: client.call("POST", merge, body={"message": "in"}))
        self._counted("list_s", f"{repository}/refs/main/objects/ls", self.objects)
        for name, done in (
            *((name, len(self.paths)) for name in ("upload", "read", "stat")),
            ("list", self.objects),
        ):
            self.results[f"{name}_per_s"] = round(done / self.results[f"{name}_s"])

    def _make_history(
        self, commits: int, all_of: Callable[[Callable[[Any], object], Iterable[Any]], None]
    ) -> None:
        slowest = 0.0
        for number in range(commits):
            places = {(number * 37 + 7 * i) % len(self.paths) for i in range(HISTORY_CHANGES)}
            all_of(self._upload_new, sorted(self.paths[place] for place in places))
            started = time.perf_counter()
            self._commit("main", f"history {number}")
            slowest = max(slowest, time.perf_counter() - started)
        self.results |= {"history": commits, "history_slowest_commit_s": round(slowest, 4)}

    def _upload_new(self, path: str) -> None:
        raw = self.content + os.urandom(8)
        self.client.call("POST", f"{self.repository}/branches/main/objects", {"path": path}, raw=raw)

    def _upload(self, place: int) -> None:
        raw = self.content + place.to_bytes(4, "big")
        path = self.paths[place]
        self.client.call("POST", f"{self.repository}/branches/week/objects", {"path": path}, raw=raw)

    def _commit(self, branch: str, message: str) -> None:
        self.client.call("POST", f"{self.repository}/branches/{branch}/commits", body={"message": message})

    def _get(self, what: str) -> Callable[[str], object]:
        return lambda path: self.client.call("GET", f"{self.repository}/refs/week/{what}", {"path": path})

    def _counted(self, name: str, path: str, expected: int) -> None:
        found = self._timed(name, lambda: self.client.count(path))
        if found != expected:
            raise SystemExit(f"{path} has {found} results, not {expected}")

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        done = work()
        self.results[name] = round(time.perf_counter() - started, 4)
        return done


def memory(pid: int) -> dict[str, int]:
    """Resident memory of a process now, and at most so far, in MB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        name: int(status[field].split()[0]) // 1024
        for name, field in (("rss_mb", "VmRSS"), ("peak_mb", "VmHWM"))
    }


def _files(folder: Path, objects: int) -> Path:
    if not folder.is_dir():
        for i in range(objects):
            if i % 1000 == 0:
                (folder / f"{i // 1000:04d}").mkdir(parents=True)
            content = i.to_bytes(8, "big") * (SIZE // 8 if objects <= 100_000 else 1)
            (folder / f"{i // 1000:04d}/{i:07d}.bin").write_bytes(content)
    return folder


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--endpoint", "--key", "--secret"):
        parser.add_argument(name, required=True)
    parser.add_argument("--import-dir", type=Path, required=True)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument(
        "--history", type=int, default=0, help="commits of 100 changes each to make before measuring"
    )
    parser.add_argument("--pid", type=int)
    options = parser.parse_args()
    bench = Bench(
        Client(options.endpoint, options.key, options.secret), options.import_dir.resolve(), options.objects
    )
    bench.run(options.history)
    print(json.dumps(bench.results | (memory(options.pid) if options.pid else {})))


if __name__ == "__main__":
    main()
