"""The agent as it ships, in processes of its own, killed by the system at any time."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from edge.states import MOST_STARTS, MOST_TESTS
from resources.home import ROOT
from tests.devices.cabinet import Cabinet
from tests.devices.small_fleet import Fleet, frame


@pytest.fixture
def cabinet(tmp_path: Path) -> Cabinet:
    fleet = Fleet(tmp_path)
    fleet.publish(fleet.bundle(1), poll_every=1)
    return Cabinet.provisioned(fleet)


def killed(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait for something that the process does, as long as it lives."""
    while not condition():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.02)


def at_a_limit(cabinet: Cabinet) -> bool:
    """Whether one more kill would rightly be taken for the candidate's fault: on a busy machine, all hit one step."""
    state = cabinet.state()
    return (state.phase == "SELFTEST" and state.tests >= MOST_TESTS) or (
        state.phase == "TRIAL" and state.starts >= MOST_STARTS
    )


@pytest.mark.slow
def test_sigkills_of_real_processes(cabinet: Cabinet, count: Callable[[int, int], int]) -> None:
    cabinet.photograph(4)
    code, said = cabinet.run("once")
    assert code == 0, said
    assert "release 1" in said
    cabinet.fleet.publish(cabinet.fleet.bundle(2, padding=200_000), poll_every=1)
    generator = random.Random(3)
    for _ in range(count(1, 60)):
        process = cabinet.start("run")
        cabinet.photograph(1)
        time.sleep(generator.uniform(0.3, 2.5))
        until(lambda: not at_a_limit(cabinet), process)
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
        code, said = cabinet.typed("once")
        assert code == 1 and "is used by another agent" in said
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    finally:
        killed(process)
        listening.close()


def proportional_set_size(pid: int) -> int:
    """Bytes of memory of a process and all that it started, what they share counted once."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(each.memory_full_info().pss for each in processes)


def test_all_processes_of_a_device_have_little_memory(cabinet: Cabinet, tmp_path: Path) -> None:
    # As on a device, where no such package is.
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "imagecodecs.py").write_text("raise ImportError('not on a device')\n")
    cabinet.photograph(3)
    Image.new("RGB", (640, 480), "green").save(cabinet.camera / "odd.bmp")
    process = cabinet.start("run", PYTHONPATH=f"{tmp_path / 'absent'}{os.pathsep}{ROOT}")
    try:
        until(lambda: (cabinet.folder / "answers.jsonl").exists() and len(cabinet.answers()) == 4, process)
        assert {each["name"]: each["prediction"] for each in cabinet.answers()}["odd.bmp"] in ("bar", "ring")
        # The agent, the model's process, and the one that decoded the bitmap.
        assert len(psutil.Process(process.pid).children(recursive=True)) == 2
        assert proportional_set_size(process.pid) <= 130_000_000
    finally:
        killed(process)


def test_images_over_http_and_a_model_that_kills_its_process(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.publish(fleet.bundle(1), poll_every=1)
    cabinet = Cabinet.provisioned(fleet, source={"http": "127.0.0.1:0"})
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
