"""A device that is killed, or loses its power, anywhere in an update has a working model and goes on."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.agent import Agent
from edge.engines import Engine
from edge.fetch import CHUNK, Client
from edge.files import Files, System
from edge.runner import OpenedHere, RunnerDied
from tests.devices.broken_disks import Killed, KilledAt, PowerCut
from tests.devices.small_fleet import Bundle, Device, Fleet, frame, update

# Longer than a chunk, so that there is something to go on with.
PADDING = 3 * CHUNK
UPDATES = ("good", "crashes on load", "wrong answers", "too slow")


class CountingClient(Client):
    """Counts the bytes of files apart from those of metadata."""

    of_blobs = 0

    def blob(self, *arguments: Any) -> None:
        before = self.bytes
        try:
            super().blob(*arguments)
        finally:
            CountingClient.of_blobs += self.bytes - before


@dataclass
class Updated:
    """A fleet in which release 1 runs, and release 2 is assigned."""

    fleet: Fleet
    first: Bundle
    second: Bundle
    good: bool
    told: int
    steps: int
    open_runner: Callable[..., Any]
    template: Path

    def device(self, folder: Path, system: System) -> Device:
        """The device as it was before the update, on this disk."""
        shutil.copytree(self.template, folder)
        return self.again(folder, system)

    def again(self, folder: Path, system: System) -> Device:
        """The device of a folder, started again."""
        made = Device(self.fleet, folder, "cam-17", system=system, open_runner=self.open_runner)
        made.client = CountingClient()
        return made


@pytest.fixture(scope="module", params=UPDATES)
def updated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Updated:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    first = fleet.bundle(1)
    fleet.publish(first)
    device = fleet.device()
    agent = device.start()
    assert update(agent)["model"]["release"] == 1
    kind: str = request.param
    changes: dict[str, Any] = {"padding": PADDING}
    if kind == "too slow":
        changes["budget"] = {"cpu_ms": 0.0, "memory_mb": 100_000}
    second = fleet.bundle(2, wrong=kind == "wrong answers", **changes)
    fleet.publish(second)
    bad = second.manifest["files"]["model.onnx"]["sha256"] if kind == "crashes on load" else None

    def open_runner(model: Path, threads: int, engine: Engine | None) -> OpenedHere:
        if model.name == bad:
            raise RunnerDied("crash", "signal 11")
        return OpenedHere(model, threads, engine)

    made = Updated(fleet, first, second, kind == "good", agent.state.seq, 0, open_runner, device.folder)
    made.steps = steps_of(made, tmp_path_factory.mktemp("counted") / "device")
    return made


def goes_on(updated: Updated, device: Device) -> None:
    """A fresh process answers at once by a whole model, and ends where it should, each event once."""
    agent = device.start()
    answered = agent.answer(frame())
    assert answered["model"]["release"] in (1, 2)
    assert_whole(agent)
    for _ in range(4):
        agent = device.start()
        assert update(agent)["model"]["release"] in (1, 2)
        if agent.state.phase == "IDLE" and not agent.state.outbox:
            break
    assert agent.state.phase == "IDLE"
    assert agent.state.good is not None and agent.state.good.release == (2 if updated.good else 1)
    assert agent.state.starts <= 3
    if not updated.good:
        assert [id for id, _, _ in agent.state.quarantine] == [updated.second.id]
    numbers = [event["id"] for event in device.events()]
    assert numbers == list(range(updated.told + 1, agent.state.seq + 1))
    ends = [event["event"] for event in device.events() if event["bundle"] == updated.second.id]
    assert sum(end in ("committed", "refused", "rolled_back") for end in ends) == 1


def assert_whole(agent: Agent) -> None:
    good = agent.state.good
    assert good is not None
    for _, sha256, _ in good.files:
        assert agent._files.sha256(f"blobs/{sha256}") == sha256


def steps_of(updated: Updated, folder: Path) -> int:
    """How many steps on the disk the update takes when nothing happens."""
    counting = KilledAt(-1, "never")
    update(updated.device(folder, counting).start())
    return counting.steps


@pytest.fixture(autouse=True)
def no_reports(updated: Updated) -> None:
    shutil.rmtree(updated.fleet.root / "reports", ignore_errors=True)


@pytest.mark.slow
def test_killed_at_every_step_of_an_update(
    updated: Updated, tmp_path: Path, count: Callable[[int, int], int]
) -> None:
    steps = updated.steps
    assert steps > 30
    every = count(14, 1)
    kills = [(step, moment) for step in range(1, steps + 1) for moment in ("before", "half", "after")]
    for step, moment in kills[UPDATES.index("good") :: every]:
        folder = tmp_path / f"{step}-{moment}"
        CountingClient.of_blobs = 0
        device = updated.device(folder, KilledAt(step, moment))
        with pytest.raises(Killed):
            update(device.start())
        goes_on(updated, updated.again(folder, System()))
        sizes = sum(each["size"] for each in updated.second.manifest["files"].values())
        assert CountingClient.of_blobs <= sizes + CHUNK, (step, moment)
        shutil.rmtree(folder)
        shutil.rmtree(updated.fleet.root / "reports", ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("survives", ["nothing", "names", "half"])
def test_power_cut_at_every_step_of_an_update(
    updated: Updated, tmp_path: Path, count: Callable[[int, int], int], survives: str
) -> None:
    for step in range(1, updated.steps + 1, count(26, 1)):
        before, after = tmp_path / f"before-{step}", tmp_path / f"after-{step}"
        CountingClient.of_blobs = 0
        disk = PowerCut(step, survives)
        device = updated.device(before, disk)
        known = durable_before(disk, before / "state")
        with pytest.raises(Killed):
            update(device.start())
        assert known
        disk.after_the_cut(before / "state", after / "state")
        for name in ("root.json", "device.pem"):
            shutil.copy(before / name, after / name)
        goes_on(updated, updated.again(after, System()))
        sizes = sum(each["size"] for each in updated.second.manifest["files"].values())
        assert CountingClient.of_blobs <= sizes + CHUNK, step
        shutil.rmtree(before)
        shutil.rmtree(after)
        shutil.rmtree(updated.fleet.root / "reports", ignore_errors=True)


def durable_before(disk: PowerCut, state: Path) -> bool:
    """What lay on the disk before is durable; TUF's cache is left out, for it may be anything."""
    for number, file in enumerate(sorted(state.rglob("*"))):
        if file.is_file() and "cache" not in file.parts:
            disk._inodes[file] = disk._names[file] = -number - 1
            disk._contents[-number - 1] = file.read_bytes()
    return bool(disk._names)


def test_a_disk_that_forgets_a_name_is_seen_by_the_model_of_it(tmp_path: Path) -> None:
    """The simulated disk itself: what is not waited for is lost, what is waited for is not."""
    disk = PowerCut(-1, "nothing")
    files = Files(tmp_path / "disk", disk)
    files.write("kept", b"whole")
    disk.write(tmp_path / "disk" / "lost", b"not waited for")
    disk.after_the_cut(tmp_path / "disk", tmp_path / "after")
    assert (tmp_path / "after" / "kept").read_bytes() == b"whole"
    assert not (tmp_path / "after" / "lost").exists()
