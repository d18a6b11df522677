"""The same interface over HTTP: a real MLflow server, which takes half a minute to start."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from promotion_world import PROJECT, hour, judged
from test_killed_on_mlflow import trained_on

from resources.model_errors import ArtifactMissing, RegistryUnavailable
from resources.model_registry import ModelRegistry
from visionops_assets.history import production
from visionops_assets.promotion.promote import promote
from visionops_assets.promotion.rollback import release, rollback

pytestmark = pytest.mark.stated
Process = subprocess.Popen[bytes]


@dataclass
class Served:
    """A registry over HTTP; its server, and what starts another in its place."""

    registry: ModelRegistry
    server: Process
    start: Callable[[], Process]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(server: Process) -> None:
    """End the server with its workers."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(60)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    started: list[Process] = []

    def start() -> Process:
        program = str(Path(sys.executable).with_name("mlflow"))
        store = [
            "--backend-store-uri",
            f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination",
            str(folder),
        ]
        place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        with (folder / "log").open("ab") as log:
            server = subprocess.Popen(
                [program, "server", *store, *place], stdout=log, stderr=log, start_new_session=True
            )
        started.append(server)
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and server.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                    return server
            except httpx.HTTPError:
                time.sleep(0.5)
        raise AssertionError((folder / "log").read_text())

    yield Served(ModelRegistry(tracking_uri=f"http://127.0.0.1:{port}"), start(), start)
    for server in started:
        stop(server)


def test_promotion_and_rollback_work_over_http(served: Served) -> None:
    registry = served.registry
    for number, name in enumerate(("one", "two"), start=1):
        verdict = judged(registry, trained_on(registry, name))
        change = promote(registry, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(number))
        assert change.version == number
    rollback(registry, project=PROJECT, who="ada", why="bad", when=hour(3))
    now = production(registry.models.get(PROJECT))
    assert now.version == 1 and [each.version for each in now.intervals] == [1, 2, 1]


def test_artifacts_travel_over_http(served: Served, tmp_path: Path) -> None:
    registry = served.registry
    run = registry.runs.start("files", "r", {})
    data = os.urandom(3_000_000)
    registry.artifacts.put_bytes(run.id, "deep/er/blob.bin", data)
    assert registry.artifacts.read_bytes(run.id, "deep/er/blob.bin") == data
    assert registry.artifacts.fetch(run.id, "deep/er/blob.bin", tmp_path / "copy").read_bytes() == data
    assert [each.size for each in registry.artifacts.list(run.id, "deep/er")] == [3_000_000]
    with pytest.raises(ArtifactMissing):
        registry.artifacts.read_bytes(run.id, "deep/er/other.bin")


def test_server_gone_in_the_middle_is_one_clear_error_and_promotion_goes_through_later(
    served: Served,
) -> None:
    registry = served.registry
    release(registry, project=PROJECT, who="ada", why="over", when=hour(4))
    verdict = judged(registry, trained_on(registry, "three"))

    def pull_the_plug(step: str) -> None:
        if step == "recorded":
            stop(served.server)

    arguments: dict[str, Any] = {"project": PROJECT, "verdict": verdict.identity, "who": "sensor"}
    with pytest.raises(RegistryUnavailable, match="MLFLOW_TRACKING_URI"):
        promote(registry, **arguments, when=hour(5), on_step=pull_the_plug)
    served.server = served.start()
    assert production(registry.models.get(PROJECT)).incomplete is not None
    change = promote(registry, **arguments, when=hour(6))
    assert change.changed and production(registry.models.get(PROJECT)).version == change.version
