"""The agent as it ships, in processes of its own, killed by the system at any time."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge.outbox import read_report
from edge.state_file import State, from_json
from resources.artifact_store import ArtifactStore
from resources.home import ROOT
from tests.devices.small_fleet import DEVICE, GROUP, PROJECT, Fleet, frame
from visionops_assets.delivery.enrolment import Enrolled, enrolled, provision

ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


class Cabinet:
    """A provisioned device, its camera, and the agent as a process."""

    def __init__(self, fleet: Fleet, **settings: Any) -> None:
        self.fleet, self.folder, self.camera = fleet, fleet.root / DEVICE, fleet.root / "camera"
        self.camera.mkdir()
        self.artifacts = ArtifactStore(root=str(fleet.root / "artifacts"))
        provision(
            self.artifacts,
            project=PROJECT,
            group=GROUP,
            device=DEVICE,
            to=self.folder,
            root=fleet.repository.bootstrap(),
            settings={
                "repository": fleet.url,
                "reports": str(fleet.root / "reports"),
                "source": {"folder": str(self.camera)},
                "sink": {"lines": "answers.jsonl"},
                **settings,
            },
            who="ada@example.com",
            when=datetime.now(UTC),
        )

    def photograph(self, number: int) -> None:
        for each in range(number):
            name = f"{len(list(self.camera.iterdir())):05d}.png"
            (self.camera / f".{name}").write_bytes(frame(each))
            (self.camera / f".{name}").replace(self.camera / name)

    def start(self, command: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "edge", command, "--device", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**ENVIRONMENT, **environment},
        )

    def run(self, command: str) -> tuple[int, str]:
        process = self.start(command)
        said, _ = process.communicate()
        return process.returncode, said

    def state(self) -> State:
        return from_json(json.loads((self.folder / "state" / "state.json").read_text()))

    def whole(self) -> None:
        """What answers is there and right by its digest."""
        import hashlib

        good = self.state().good
        assert good is not None
        for _, sha256, _ in good.files:
            content = (self.folder / "state" / "blobs" / sha256).read_bytes()
            assert hashlib.sha256(content).hexdigest() == sha256

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "answers.jsonl").read_text().splitlines()]

    def events(self) -> dict[int, dict[str, Any]]:
        record = enrolled(self.artifacts, PROJECT, DEVICE)
        assert isinstance(record, Enrolled)
        public = load_pem_public_key(record.public_key.encode())
        found: dict[int, dict[str, Any]] = {}
        for file in sorted((self.fleet.root / "reports" / PROJECT / DEVICE).glob("*.jsonl.gz")):
            for event in read_report(file.read_bytes(), public)[1]:  # type: ignore[arg-type]
                assert found.setdefault(event["id"], event) == event
        return found


@pytest.fixture
def cabinet(tmp_path: Path) -> Cabinet:
    fleet = Fleet(tmp_path)
    fleet.publish(fleet.bundle(1), poll_every=1)
    return Cabinet(fleet)


def killed(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait for something that the process does, as long as it lives."""
    while not condition():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.02)


def test_sigkills_of_real_processes(cabinet: Cabinet, count: Callable[[int, int], int]) -> None:
    cabinet.photograph(4)
    code, said = cabinet.run("once")
    assert code == 0, said
    assert "release 1" in said
    cabinet.fleet.publish(cabinet.fleet.bundle(2, padding=200_000), poll_every=1)
    generator = random.Random(3)
    for _ in range(count(3, 60)):
        process = cabinet.start("run")
        cabinet.photograph(1)
        time.sleep(generator.uniform(0.3, 2.5))
        killed(process)
        cabinet.whole()
    for _ in range(8):
        cabinet.photograph(3)
        code, said = cabinet.run("once")
        assert code == 0, said
        if cabinet.state().phase == "IDLE":
            break
    state = cabinet.state()
    assert state.phase == "IDLE" and state.good is not None and state.quarantine == ()
    assert state.good.release == 2
    assert sorted(cabinet.events()) == list(range(1, state.seq + 1))
    committed = [each for each in cabinet.events().values() if each["event"] == "committed"]
    assert len(committed) == 2
    # Each image was answered; one that was under way at a kill perhaps twice, by its name and digest the same.
    assert {each["name"] for each in cabinet.answers()} == {file.name for file in cabinet.camera.iterdir()}


def test_run_answers_follows_and_ends_at_a_signal(cabinet: Cabinet, tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    cabinet.photograph(4)
    process = cabinet.start("run", NOTIFY_SOCKET=str(tmp_path / "notify"))
    try:
        answers = cabinet.folder / "answers.jsonl"
        until(lambda: answers.exists() and len(cabinet.answers()) == 4, process)
        assert {listening.recv(100) for _ in range(2)} == {b"READY=1", b"WATCHDOG=1"}
        code, said = cabinet.run("once")
        assert code == 1 and "is used by another agent" in said
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    finally:
        killed(process)
        listening.close()


def test_images_over_http_and_a_model_that_kills_its_process(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.publish(fleet.bundle(1), poll_every=1)
    cabinet = Cabinet(fleet, source={"http": "127.0.0.1:0"})
    process = cabinet.start("run")
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with httpx.Client(timeout=60) as http:
            until(lambda: http.post(url, content=frame()).status_code == 200, process)
            found = http.post(url, content=frame()).json()
            assert found["model"]["release"] == 1 and found["prediction"] in ("bar", "ring")
            assert http.post(url, content=b"no image").status_code == 400
            # The model's process is killed between two images: the next one is answered all the same.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for child in children:
                os.kill(int(child), signal.SIGKILL)
            assert http.post(url, content=frame()).status_code == 200
            health = http.get(url.replace("predict", "health")).json()
            assert health["serving"]["release"] == 1
    finally:
        killed(process)
