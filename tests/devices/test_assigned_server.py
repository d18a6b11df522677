"""A server by assignment: a candidate is tried first, no request is dropped by a change, and a crash leads back."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from typer.testing import CliRunner

from edge.device import Device
from edge.settings import SettingsError
from tests.devices.cabinet import Cabinet
from tests.devices.small_fleet import DEVICE, GROUP, PROJECT, Fleet, frame
from tests.world import shapes_project
from visionops.cli.command_line import app
from visionops.serving.assigned_app import AssignedApp, opened_device
from visionops.serving.prediction_server import in_thread


@pytest.fixture
def cabinet(tmp_path: Path) -> Cabinet:
    fleet = Fleet(tmp_path)
    fleet.publish(fleet.bundle(1), poll_every=1)
    return Cabinet.provisioned(fleet)


@contextmanager
def serving(cabinet: Cabinet) -> Iterator[tuple[Device, httpx.Client]]:
    """A server that answers by its first model."""
    with (
        opened_device(cabinet.folder, project=PROJECT, device=DEVICE) as device,
        in_thread(AssignedApp(PROJECT, device)) as server,  # type: ignore[arg-type]
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        until(lambda: client.get("/health").status_code == 200)
        yield device, client


def until(what: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


class Clients:
    """Ask one after the other, several at once, until they are ended; `statuses` and `releases` of the answers."""

    def __init__(self, client: httpx.Client, number: int = 3) -> None:
        self.statuses: Counter[int] = Counter()
        self.releases: list[int] = []
        self._client, self._ended = client, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(number)]

    def __enter__(self) -> "Clients":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join()

    def _ask(self) -> None:
        while not self._ended.is_set():
            found = self._client.post("/predict", content=frame())
            self.statuses[found.status_code] += 1
            if found.status_code == 200:
                self.releases.append(found.json()["model"]["release"])

    def answered_by(self, release: int) -> None:
        until(lambda: self.releases[-1:] == [release])


@pytest.mark.slow
def test_an_update_a_refusal_and_a_withdrawal_drop_no_request(cabinet: Cabinet) -> None:
    fleet = cabinet.fleet
    first = fleet.repository.assignment(GROUP)
    assert first is not None
    with serving(cabinet) as (device, client), Clients(client) as asked:
        asked.answered_by(1)
        fleet.publish(fleet.bundle(2), poll_every=1)
        asked.answered_by(2)
        until(lambda: device.agent.state.phase == "IDLE")
        wrong = fleet.bundle(3, wrong=True)
        fleet.publish(wrong, poll_every=1)
        until(lambda: wrong.id in client.get("/health").json()["quarantine"])
        fleet.assign(base=first["base"], poll_every=1)
        asked.answered_by(1)
        told = client.get("/health").json()
        assert (told["status"], told["model"]["version"], told["device"]) == ("ok", 1, DEVICE)
        assert (
            'visionops_serve_model_version{group="line-1",project="shapes"} 1.0'
            in client.get("/metrics").text
        )
        assert client.post("/predict", content=b"no image").status_code == 400
        assert "@image.png" in client.post("/predict", content=b"").json()["error"]
    assert set(asked.statuses) == {200} and 3 not in asked.releases
    # It tells what it did, as devices do.
    assert [each["event"] for each in cabinet.events().values() if each["event"] in ("refused", "went_back")]


@pytest.mark.slow
def test_a_model_on_trial_that_dies_takes_no_request_along_and_the_base_answers(cabinet: Cabinet) -> None:
    fleet = cabinet.fleet
    with serving(cabinet) as (_, client), Clients(client) as asked:
        asked.answered_by(1)
        candidate = fleet.bundle(2)
        fleet.publish(candidate, poll_every=1, observe={"frames": 10**6, "seconds": 86400})
        asked.answered_by(2)
        (runner,) = [
            each for each in psutil.Process().children(recursive=True) if holds(each, candidate.manifest)
        ]
        runner.kill()
        asked.answered_by(1)
        assert client.get("/health").json()["quarantine"] == {candidate.id: "crash"}
    assert set(asked.statuses) == {200}
    # Started anew, it answers by the base at once: what it was assigned is refused.
    with serving(cabinet) as (_, client):
        assert client.post("/predict", content=frame()).json()["model"]["release"] == 1


def holds(process: psutil.Process, manifest: dict[str, Any]) -> bool:
    """Whether a process runs the model of a manifest."""
    return any(manifest["files"]["model.onnx"]["sha256"] in word for word in process.cmdline())


def test_what_cannot_be_a_server_by_assignment_is_said_in_one_line(
    cabinet: Cabinet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects = tmp_path / "projects"
    projects.mkdir()
    content = shapes_project().model_dump(mode="json", exclude_none=True)
    (projects / "shapes.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("VISIONOPS_PROJECTS", str(projects))
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, ["serve", PROJECT, "--port", "0", *words])
        assert result.exit_code != 0 and "\n" not in str(result.exception)
        return str(result.exception)

    folder = ("--state", str(cabinet.folder))
    assert "--device NAME, as `visionops fleet provision shapes" in said(*folder)
    named = (*folder, "--device", DEVICE)
    assert "--batch, --no-log and --state exclude one another" in said(*named, "--batch", "2", "--no-log")
    other = f"is of {DEVICE}, group {GROUP} of shapes, not of"
    assert f"{other} {DEVICE}, group line-9 of shapes" in said(*named, "--group", "line-9")
    assert f"{other} cam-1, group {GROUP} of shapes" in said(*folder, "--device", "cam-1")
    nowhere = ("--state", str(tmp_path / "nowhere"), "--device", DEVICE)
    assert "is not there: `visionops fleet provision" in said(*nowhere)
    with (
        opened_device(cabinet.folder, project=PROJECT, device=DEVICE),
        pytest.raises(SettingsError, match="is used by another agent"),
    ):
        opened_device(cabinet.folder, project=PROJECT, device=DEVICE)
