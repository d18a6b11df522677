#!/usr/bin/env python3
"""Time the lakeFS API of a server: the same work, whichever server answers.

    python benchmarks/lakefs_bench.py --endpoint URL --key K --secret S --import-dir DIR [--objects N] [--pid PID]

One JSON line: seconds, rates, and the server's resident memory (MB). `DIR`: an empty folder the server may import from.
"""

import argparse
import base64
import concurrent.futures as cf
import http.client
import json
import os
import threading
import time
import urllib.parse
import uuid
from pathlib import Path

SIZE, THREADS, CHANGES = 3072, 4, 1000
local = threading.local()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--endpoint", "--key", "--secret", "--import-dir"):
        p.add_argument(name, required=True)
    p.add_argument("--objects", type=int, default=10_000)
    p.add_argument(
        "--history", type=int, default=0, help="commits of 100 changes each to make before measuring"
    )
    p.add_argument("--pid", type=int)
    a = p.parse_args()
    u = urllib.parse.urlsplit(a.endpoint)
    auth = "Basic " + base64.b64encode(f"{a.key}:{a.secret}".encode()).decode()

    def call(method, path, query=None, body=None, raw=None):
        if not hasattr(local, "c"):
            local.c = http.client.HTTPConnection(u.hostname, u.port, timeout=600)
        target = "/api/v1" + path + ("?" + urllib.parse.urlencode(query) if query else "")
        headers = {
            "Authorization": auth,
            "Content-Type": "application/octet-stream" if raw is not None else "application/json",
        }
        local.c.request(
            method,
            target,
            body=raw if raw is not None else json.dumps(body) if body is not None else None,
            headers=headers,
        )
        r = local.c.getresponse()
        data = r.read()
        if r.status >= 400:
            raise SystemExit(f"{method} {path}: {r.status} {data[:300]}")
        return (
            json.loads(data)
            if "json" in (r.getheader("content-type") or "") and raw is None and data
            else data
        )

    def timed(name, fn):
        t = time.perf_counter()
        out = fn()
        result[name] = round(time.perf_counter() - t, 4)
        return out

    def listing(path, **q):
        n, after = 0, ""
        while True:
            page = call("GET", path, {"amount": 1000, "after": after, **q})
            n += len(page["results"])
            if not page["pagination"]["has_more"]:
                return n
            after = page["pagination"]["next_offset"]

    result = {"objects": a.objects}
    source = Path(a.import_dir) / f"bench-{a.objects}"
    if not source.is_dir():
        for i in range(a.objects):
            if i % 1000 == 0:
                (source / f"{i // 1000:04d}").mkdir(parents=True, exist_ok=True)
            content_of = i.to_bytes(8, "big") * (SIZE // 8 if a.objects <= 100_000 else 1)
            (source / f"{i // 1000:04d}/{i:07d}.bin").write_bytes(content_of)
    name = "bench-" + uuid.uuid4().hex[:8]
    repo = f"/repositories/{name}"
    call(
        "POST",
        "/repositories",
        body={"name": name, "storage_namespace": f"local://{name}", "default_branch": "main"},
    )

    def imported():
        job = call(
            "POST",
            f"{repo}/branches/main/import",
            body={
                "paths": [{"type": "common_prefix", "path": f"local://{source}/", "destination": "data/"}],
                "commit": {"message": "base"},
            },
        )
        while True:
            s = call("GET", f"{repo}/branches/main/import", {"id": job["id"]})
            if s.get("error"):
                raise SystemExit(s["error"])
            if s["completed"]:
                return
            time.sleep(0.02)

    timed("import_s", imported)
    timed("branch_s", lambda: call("POST", f"{repo}/branches", body={"name": "week", "source": "main"}))
    content = os.urandom(SIZE)
    step = max(1, a.objects // CHANGES)
    paths = [f"data/{i // 1000:04d}/{i:07d}.bin" for i in range(0, a.objects, step)][:CHANGES]
    with cf.ThreadPoolExecutor(THREADS) as pool:
        slowest = 0.0
        for h in range(a.history):
            some = [paths[(h * 37 + 7 * i) % len(paths)] for i in range(100)]
            list(
                pool.map(
                    lambda q: call(
                        "POST", f"{repo}/branches/main/objects", {"path": q}, raw=content + os.urandom(8)
                    ),
                    sorted(set(some)),
                )
            )
            t = time.perf_counter()
            call("POST", f"{repo}/branches/main/commits", body={"message": f"history {h}"})
            slowest = max(slowest, time.perf_counter() - t)
        if a.history:
            result["history"], result["history_slowest_commit_s"] = a.history, round(slowest, 4)
            call("DELETE", f"{repo}/branches/week")
            call("POST", f"{repo}/branches", body={"name": "week", "source": "main"})
        timed(
            "upload_s",
            lambda: list(
                pool.map(
                    lambda i: call(
                        "POST",
                        f"{repo}/branches/week/objects",
                        {"path": paths[i]},
                        raw=content + i.to_bytes(4, "big"),
                    ),
                    range(len(paths)),
                )
            ),
        )
        n = timed("uncommitted_s", lambda: listing(f"{repo}/branches/week/diff"))
        assert n == len(paths), n
        timed("commit_s", lambda: call("POST", f"{repo}/branches/week/commits", body={"message": "week"}))
        n = timed("diff_s", lambda: listing(f"{repo}/refs/main/diff/week"))
        assert n == len(paths), n
        timed(
            "read_s",
            lambda: list(pool.map(lambda q: call("GET", f"{repo}/refs/week/objects", {"path": q}), paths)),
        )
        timed(
            "stat_s",
            lambda: list(
                pool.map(lambda q: call("GET", f"{repo}/refs/week/objects/stat", {"path": q}), paths)
            ),
        )
    timed("merge_s", lambda: call("POST", f"{repo}/refs/week/merge/main", body={"message": "in"}))
    n = timed("list_s", lambda: listing(f"{repo}/refs/main/objects/ls"))
    assert n == a.objects, n
    result["upload_per_s"] = round(len(paths) / result["upload_s"])
    result["read_per_s"] = round(len(paths) / result["read_s"])
    result["stat_per_s"] = round(len(paths) / result["stat_s"])
    result["list_per_s"] = round(a.objects / result["list_s"])
    if a.pid:
        status = Path(f"/proc/{a.pid}/status").read_text().splitlines()
        result["rss_mb"] = next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
