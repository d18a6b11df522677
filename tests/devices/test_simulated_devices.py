"""Simulated devices: what is declared happens to them, and each is a process that may die."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge.device import Device as Running
from resources.home import ROOT
from tests.devices.cabinet import Cabinet
from tests.devices.small_fleet import DEVICE, GROUP, Fleet, frame, update
from visionops.cli.fleet_up import changes
from visionops.simulation.declared_faults import Fault, FaultInvalid, declared
from visionops.simulation.device_processes import command, configuration, processes
from visionops.simulation.provisioned_devices import names
from visionops.simulation.simulated_device import SimulatedDevice


def simulated(fleet: Fleet, *faults: Fault, every: float = 0.05) -> SimulatedDevice:
    """A provisioned device beside the repository, and two images to show it."""
    cabinet = Cabinet.provisioned(fleet)
    images = tuple(fleet.root / f"{seed}.png" for seed in range(2))
    for seed, image in enumerate(images):
        image.write_bytes(frame(seed))
    return SimulatedDevice(DEVICE, cabinet.folder, images, every, faults=faults)


@contextmanager
def opened(device: SimulatedDevice) -> Iterator[Running]:
    found = device.opened()
    try:
        yield found
    finally:
        found.close()


def reports(fleet: Fleet) -> list[Path]:
    return list((fleet.root / "reports").rglob("*.jsonl.gz"))


@pytest.mark.parametrize(
    ("text", "where", "fault"),
    [
        ("line-3:slow=40", "line-3", Fault("slow", 40)),
        ("line-3:slow=1.5", "line-3", Fault("slow", 1.5)),
        ("cam-1:crash-after=20", "cam-1", Fault("crash-after", 20)),
        ("line-2:silent", "line-2", Fault("silent", 0)),
        ("line-1:clock=1972", "line-1", Fault("clock", 1972)),
        ("line-1:disk=1M", "line-1", Fault("disk", 1e6)),
        ("line-1:disk=500", "line-1", Fault("disk", 500)),
    ],
)
def test_a_fault_is_declared_in_words(text: str, where: str, fault: Fault) -> None:
    assert declared(text) == (where, fault)


@pytest.mark.parametrize(
    "text",
    [
        "slow=40",
        "line-1",
        "line-1:quick",
        "line-1:slow",
        "line-1:slow=",
        "line-1:slow=0",
        "line-1:slow=x",
        "line-1:slow=1e9",
        "line-1:silent=1",
        "line-1:clock=72",
        "line-1:clock=1972.5",
        "line-1:disk=1T",
        "line-1:crash-after=1.5",
        ":slow=1",
        "line-1:slow=-4",
        "line-1:slow=٤",
        "line-1:slow=4M",
        "a:b:slow=4",
    ],
)
def test_what_is_no_fault_is_named_with_those_there_are(text: str) -> None:
    with pytest.raises(FaultInvalid) as found:
        declared(text)
    assert repr(text) in str(found.value) and "\n" not in str(found.value)


def test_devices_are_spread_evenly() -> None:
    assert names(["a", "b", "c"], 5) == {
        "a": ["a-sim-01", "a-sim-02"],
        "b": ["b-sim-01", "b-sim-02"],
        "c": ["c-sim-01"],
    }
    assert names(["a", "b"], 1) == {"a": ["a-sim-01"]}


def test_one_without_a_fault_does_as_devices_do(fleet: Fleet) -> None:
    device = simulated(fleet)
    assert SimulatedDevice.from_json(device.to_json()) == device
    with opened(device) as running:
        assert update(running.agent)["model"]["release"] == 1
        assert running.agent.state.phase == "IDLE" and reports(fleet)


def test_a_slow_one_refuses_what_is_over_its_budget(fleet: Fleet) -> None:
    fleet.publish(fleet.bundle(2, budget={"cpu_ms": 1000.0}))
    with opened(simulated(fleet, Fault("slow", 1e8))) as running:
        running.agent.look()
        running.agent.settle()
        assert [why for _, why, _ in running.agent.state.quarantine] == ["slow"]
        assert running.agent.state.serving is None


def test_one_whose_models_die_goes_back(fleet: Fleet) -> None:
    with opened(simulated(fleet, Fault("crash-after", 6))) as running:
        assert update(running.agent)["model"]["release"] == 1
        # Two of its six images were answered when it became the good one.
        fleet.publish(fleet.bundle(2), observe={"frames": 50, "seconds": 86400})
        running.agent.look()
        running.agent.settle()
        answers = [running.agent.answer(frame(seed)) for seed in range(8)]
        assert {each["model"]["release"] for each in answers} == {1, 2}
        assert [why for _, why, _ in running.agent.state.quarantine] == ["crash"]
        assert running.agent.state.good is not None and running.agent.state.good.release == 1


def test_a_silent_one_answers_and_reports_nothing(fleet: Fleet) -> None:
    with opened(simulated(fleet, Fault("silent", 0))) as running:
        assert update(running.agent)["model"]["release"] == 1
        assert not reports(fleet)


def test_one_whose_clock_is_wrong_says_so(fleet: Fleet) -> None:
    with opened(simulated(fleet, Fault("clock", 2199))) as running:
        assert not running.agent.attempt("repository", running.agent.look)
        assert "expired" in running.agent.problems["repository"]
    with opened(
        SimulatedDevice.from_json({**simulated_again(fleet), "faults": [["clock", 1972.0]]})
    ) as running:
        # A clock that was never set is no reason to believe less; it only knows nothing of time.
        assert update(running.agent)["model"]["release"] == 1


def simulated_again(fleet: Fleet) -> dict[str, Any]:
    images = tuple(fleet.root / f"{seed}.png" for seed in range(2))
    return SimulatedDevice(DEVICE, fleet.root / DEVICE, images, 0.05).to_json()


def test_one_with_a_small_disk_runs_out_of_it(fleet: Fleet) -> None:
    device = simulated(fleet, Fault("disk", 60_000))
    with opened(device) as running:
        assert update(running.agent)["model"]["release"] == 1
        fleet.publish(fleet.bundle(2, padding=200_000))
        running.agent.attempt("repository", running.agent.look)
        running.agent.attempt("update", running.agent.settle)
        assert [why for _, why, _ in running.agent.state.quarantine] == ["no_space"]
        assert running.answer(frame())["model"]["release"] == 1


@contextmanager
def supervised(folder: Path, devices: Sequence[SimulatedDevice]) -> "Iterator[subprocess.Popen[bytes]]":
    config = configuration(folder, devices)
    with subprocess.Popen(command(config), cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    while not condition():
        assert process.poll() is None
        time.sleep(0.05)


def test_one_that_is_killed_mid_update_is_started_again_and_goes_on(fleet: Fleet) -> None:
    device = simulated(fleet, every=0.02)
    fleet.publish(fleet.bundle(2, padding=200_000), poll_every=1, max_kbps=800)
    cabinet = Cabinet(fleet)
    state = cabinet.folder / "state" / "state.json"

    def runs(release: int) -> bool:
        found = cabinet.state().good if state.exists() else None
        return found is not None and found.release == release

    with supervised(fleet.root, [device]) as process:
        until(lambda: any((cabinet.folder / "state" / "incoming").glob("*")), process)
        pid = processes(fleet.root)[DEVICE]["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: runs(2), process)
        found = processes(fleet.root)[DEVICE]
        assert found["pid"] != pid and found["starts"] == 2 and found["ended"] == "signal 9"
        said = next(changes(fleet.root, {GROUP: [DEVICE]}))
        assert said.startswith(f"{DEVICE} ended with signal 9 and is started again")
        cabinet.whole()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert processes(fleet.root)[DEVICE]["pid"] is None
    assert not psutil.pid_exists(found["pid"])


def test_none_outlives_a_killed_parent(fleet: Fleet) -> None:
    with supervised(fleet.root, [simulated(fleet)]) as process:
        until(lambda: processes(fleet.root) != {}, process)
        child = psutil.Process(processes(fleet.root)[DEVICE]["pid"])
        process.kill()
        psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_group_is_told_in_words(fleet: Fleet) -> None:
    told = changes(fleet.root, {GROUP: [DEVICE]})
    assert next(told) == f"{GROUP}: 1 starting"
    with opened(simulated(fleet)) as running:
        for what, said in (
            (running.agent.check_good, "1 without a model yet"),
            (running.agent.look, "1 without a model yet"),
            (running.agent.settle, "1 trying release 1"),
            (lambda: update(running.agent), "1 on release 1"),
        ):
            what()
            running.agent.write_status()
            assert next(changes(fleet.root, {GROUP: [DEVICE]})) == f"{GROUP}: {said}"
