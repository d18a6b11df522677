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
from mlflow import MlflowClient
from promotion_world import PROJECT, hour, judged
from test_killed_on_mlflow import trained_on

from resources.models import artifacts
from resources.models.model_versions import Models
from resources.models.records import (
    ONNX_ARTIFACT,
    TAG_ONNX,
    TAG_WEIGHTS,
    ArtifactMissing,
    RegistryUnavailable,
)
from resources.models.registry import ModelRegistry
from resources.models.training_runs import Runs
from visionops_assets.champions.disagreements import disagreements
from visionops_assets.champions.history import production
from visionops_assets.evaluation.verdict_store import listed, load
from visionops_assets.promotion.production_change import Attribution
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
    folder: Path


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

    yield Served(ModelRegistry(tracking_uri=f"http://127.0.0.1:{port}"), start(), start, folder)
    for server in started:
        stop(server)


def test_promotion_and_rollback_work_over_http(served: Served) -> None:
    registry = served.registry
    for number, name in enumerate(("one", "two"), start=1):
        verdict = judged(registry, trained_on(registry, name))
        change = promote(registry, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(number))
        assert change.version == number
    rollback(registry, project=PROJECT, by=Attribution("ada", hour(3), "bad"))
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
    release(registry, project=PROJECT, by=Attribution("ada", hour(4), "over"))
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


class Killed(BaseException):
    """A process that ends here."""


def test_a_database_that_was_lost_behind_the_server_has_the_way_back_that_is_named(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of these: the server has nothing of the others afterwards."""
    registry = served.registry.model_copy(update={"memory": str(tmp_path / "artifacts")})
    runs = {name: trained_on(registry, name) for name in ("alpha", "beta")}
    for number, run in enumerate(runs.values(), start=7):
        verdict = judged(registry, run)
        change = promote(registry, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(number))
    ran, known = change.version, len(registry.models.get(PROJECT).remembered)
    stop(served.server)
    for file in served.folder.glob("mlflow.db*"):
        file.unlink()
    served.server = served.start()
    # Each command is a process of its own.
    artifacts._run.cache_clear()
    (found,) = [each for each in disagreements(registry, PROJECT) if each.wrong]
    assert "registers it again" in found.way_back and f"--model-version {ran} " in found.way_back, found

    def die(*_: object, **__: object) -> None:
        raise Killed

    arguments: dict[str, Any] = {"project": PROJECT, "to": ran}
    for owner, name in ((MlflowClient, "log_artifacts"), (Runs, "log_params"), (Models, "create_version")):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(owner, name, die)
            rollback(registry, **arguments, by=Attribution("ada", hour(9), "lost"))
        (found,) = [each for each in disagreements(registry, PROJECT) if each.wrong]
        assert f"--model-version {ran} " in found.way_back and "registers it again" in found.way_back, found
    change = rollback(registry, **arguments, by=Attribution("ada", hour(10), "lost"))
    now = production(registry.models.get(PROJECT))
    assert change.changed and not now.foreign and now.version == change.version
    assert not [each for each in disagreements(registry, PROJECT) if each.wrong]
    for run in runs.values():
        again = registry.runs.get(run.id)
        assert again.id != run.id and again.finished and again.tags[TAG_WEIGHTS] == run.tags[TAG_WEIGHTS]
        assert registry.artifacts.sha256(run.id, ONNX_ARTIFACT) == run.tags[TAG_ONNX]
    assert len(registry.runs.search(PROJECT)) == known, "each is recorded once, whatever was killed"
    model = registry.models.get(PROJECT)
    for listing in listed(model.tags).values():
        assert load(registry, PROJECT, listing).verdict == "PASS"
    rollback(registry, project=PROJECT, by=Attribution("ada", hour(11), "bad"))
    before = production(registry.models.get(PROJECT)).version
    assert before is not None
    assert registry.models.version(PROJECT, before).weights_sha256 == runs["alpha"].tags[TAG_WEIGHTS]
