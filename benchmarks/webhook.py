"""From a lakeFS commit to its run being requested: with the webhook, against the sensor's own interval.

    python benchmarks/webhook.py

Budget: 2 s with the webhook. A whole `visionops up` runs on a small project in a temporary folder; the clock starts
when the merge to main is asked for, and stops when Dagster holds the run.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def everything_up(webhook_port: int, log: Path) -> Iterator[None]:
    """`visionops up`, ready; MLflow's server is left out, since the store is a file."""
    command = [sys.executable, "-m", "visionops", "up", "--no-metrics", "--port", str(free_port())]
    with log.open("wb") as output:
        up = subprocess.Popen(
            [*command, "--webhook-port", str(webhook_port)], stdout=output, stderr=output, cwd=ROOT
        )
    try:
        while b"All is up" not in log.read_bytes():
            if up.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        yield
    finally:
        up.terminate()
        up.wait()


def seconds_to_run(
    instance: dg.DagsterInstance, publish: Any, merged_at: list[float], within: float
) -> float:
    """Publish a batch, then wait for the run of its commit."""
    from visionops_assets.common import run_tags

    commit = publish()
    while time.perf_counter() - merged_at[-1] < within:
        if instance.get_runs(dg.RunsFilter(tags={run_tags.COMMIT: commit}), limit=1):
            return time.perf_counter() - merged_at[-1]
        time.sleep(0.01)
    raise RuntimeError(f"no run within {within:.0f} s of commit {commit}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commits", type=int, default=5)
    parser.add_argument("--images", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        os.environ.update(
            VISIONOPS_HOME=str(home),
            VISIONOPS_PROJECTS=str(home / "projects"),
            MLFLOW_TRACKING_URI=f"sqlite:///{home / 'mlflow.db'}",
        )
        for name in ("LAKEFS_ENDPOINT", "DAGSTER_HOME", "VISIONOPS_ARTIFACTS"):
            os.environ.pop(name, None)
        measure(home, arguments.commits, arguments.images)


def measure(home: Path, commits: int, images: int) -> None:
    """Print both."""
    from tests.world import shapes_project, write_batch
    from visionops import bootstrap, services
    from visionops.serving import webhook
    from visionops_assets.dataset.batch_publishing import Publisher

    project = shapes_project()
    (home / "projects").mkdir()
    declared = project.model_dump(mode="json", exclude_none=True)
    (home / "projects" / "shapes.yaml").write_text(yaml.safe_dump(declared))
    bootstrap.prepare()
    port = free_port()
    with everything_up(port, home / "up.log"), dg.DagsterInstance.get() as instance:
        lakefs = services.lakefs()
        merged_at: list[float] = []
        merge = type(lakefs).merge

        def timed(*given: Any, **options: Any) -> str:
            merged_at.append(time.perf_counter())
            return merge(*given, **options)

        type(lakefs).merge = timed  # type: ignore[method-assign]
        batches = iter(range(1000))

        def publish() -> str:
            number = next(batches)
            folder = write_batch(home / "in" / str(number), images, seed=number)
            published = Publisher(project, lakefs, services.artifacts()).publish(folder, f"week-{number:02}")
            assert published.commit is not None
            return str(published.commit)

        interval = project.trigger.check_every.total_seconds()
        polled = [seconds_to_run(instance, publish, merged_at, 3 * interval) for _ in range(2)]
        webhook.install_action(lakefs, project.repository, f"http://127.0.0.1:{port}/lakefs")
        called = [seconds_to_run(instance, publish, merged_at, 3 * interval) for _ in range(commits)]
    show(f"the sensor's own interval of {interval:.0f} s", polled)
    show("the webhook", called)
    ratio = statistics.median(polled) / statistics.median(called)
    print(f"with the webhook the run is requested {ratio:.0f} times sooner")


def show(what: str, seconds: Sequence[float]) -> None:
    each = ", ".join(f"{one:.2f}" for one in seconds)
    print(f"{what}: {statistics.median(seconds):.2f} s from commit to run (median of {each})", flush=True)


if __name__ == "__main__":
    main()
