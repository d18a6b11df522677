"""Providers that compile a model first: before the switch, once a machine and runtime, and no device waits for it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge import engines
from edge.agent import Agent
from edge.engines import CPU, Engine, Engines, ProcessBuild, compiled, tolerated
from edge.files import Files, System
from edge.runner import OpenedHere, RunnerDied
from edge.selftest import examine
from tests.devices.broken_disks import Killed, KilledAt, PowerCut
from tests.devices.small_fleet import Bundle, Device, Fleet, frame, onnx_file, update

PROVIDER = "TensorrtExecutionProvider"


@dataclass
class Done:
    """A build that has ended, or that does not until it is let."""

    instead: str | None = ""
    under_way: bool = False
    closed: bool = False

    def ended(self, _: float) -> bool:
        return not self.under_way

    def said(self) -> str | None:
        return self.instead

    def close(self) -> None:
        self.closed = True


@dataclass
class Compiler:
    """A provider that compiles: two files, one in a folder, which have to be there and right when it is opened."""

    system: System = field(default_factory=System)
    made: list[str] = field(default_factory=list)
    opened: list[bool] = field(default_factory=list)
    # What it answers instead of compiling: a refusal, or None for a process that died.
    instead: Callable[[], str | None] | None = None
    # Whether builds end at once, and those that were begun.
    slow: bool = False
    builds: list[Done] = field(default_factory=list)

    def prepare(self, model: Path, engine: Engine) -> Done:
        self.made.append(model.name)
        (engine.folder / "plans").mkdir()
        self.system.write(engine.folder / "plans" / "one.engine", model.name.encode() * 20)
        if self.instead is not None:
            return Done(self.instead())
        self.system.write(engine.folder / "profile", b"half precision")
        self.builds.append(Done(under_way=self.slow))
        return self.builds[-1]

    def open(self, model: Path, threads: int, engine: Engine | None = None) -> OpenedHere:
        self.opened.append(engine is not None)
        if engine is not None:
            found = (engine.folder / "plans" / "one.engine").read_bytes()
            assert found == model.name.encode() * 20
            assert (engine.folder / "profile").read_bytes() == b"half precision"
        return OpenedHere(model, threads)

    def examine(self, model: Path, golden: Path, rules: Any, budget: Any, engine: Engine) -> Any:
        self.open(model, 1, engine)
        return examine(model, golden, rules, budget)

    def device(self, fleet: Fleet, folder: Path | None = None) -> Device:
        options: dict[str, Any] = {"open_runner": self.open, "examine": self.examine}
        options |= {"prepare": self.prepare, "provider": PROVIDER, "system": self.system}
        return Device(fleet, folder or fleet.root / "devices" / "cam-17", "cam-17", **options)


def engine_folders(agent: Agent) -> list[str]:
    return agent._files.folders("engines")


def test_a_model_is_compiled_before_the_switch_and_its_engine_goes_with_it(fleet: Fleet) -> None:
    provider = Compiler()
    agent = provider.device(fleet).start()
    assert update(agent)["model"]["release"] == 1
    second = fleet.bundle(2)
    fleet.publish(second)
    agent.look()
    states = []
    while agent.advance():
        states.append((agent.state.phase, agent.answer(frame())["model"]["release"]))
    # The good one answers until the other is compiled and tested.
    assert states == [("PREPARE", 1), ("SELFTEST", 1), ("TRIAL", 2)]
    assert update(agent)["model"]["release"] == 2
    assert all(provider.opened) and len(provider.made) == 2
    assert len(engine_folders(agent)) == 2
    # Back to what served before: no second build, by whichever process.
    assert agent.state.previous is not None
    fleet.assign(base={"bundle": agent.state.previous.id, "release": agent.state.previous.release})
    assert update(provider.device(fleet).start())["model"]["release"] == 1
    assert len(provider.made) == 2
    for seed in (3, 4):
        fleet.publish(fleet.bundle(seed))
        agent = provider.device(fleet).start()
        update(agent)
    assert len(engine_folders(agent)) == len(agent.state.held) == 2


def test_the_cpu_provider_is_prepared_for_nothing(fleet: Fleet) -> None:
    def never(*_: object) -> str:
        raise AssertionError

    device = fleet.device(prepare=never)
    counted = KilledAt(-1, "never")
    device.system = counted
    agent = device.start()
    update(agent)
    assert agent.state.phase == "IDLE" and agent.state.preparing == ("", 0, "")
    assert not (device.folder / "state" / "engines").exists()


@pytest.mark.parametrize("how", ["refused", "died"])
def test_a_candidate_that_cannot_be_compiled_is_left_for_a_day(fleet: Fleet, how: str) -> None:
    provider = Compiler()
    update(provider.device(fleet).start())
    fleet.publish(fleet.bundle(2))
    provider.instead = (lambda: "out of memory") if how == "refused" else (lambda: None)
    device = provider.device(fleet)
    agent = device.start()
    assert update(agent)["model"]["release"] == 1
    assert [why for _, why, _ in agent.state.quarantine] == ["unprepared"]
    assert len(provider.made) == 1 + (1 if how == "refused" else 3)
    assert len(engine_folders(agent)) == 1
    refusal = next(each for each in device.events() if each["event"] == "refused")
    assert refusal["detail"] == ("out of memory" if how == "refused" else "its process died")
    provider.instead = None
    fleet.clock.pass_(hours=25)
    assert update(agent)["model"]["release"] == 2


def test_after_another_runtime_was_installed_the_good_model_answers_and_is_compiled_anew(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Compiler()
    update(provider.device(fleet).start())
    monkeypatch.setattr("edge.machine._onnxruntime", lambda: "99.1")
    provider.opened.clear()
    agent = provider.device(fleet).start()
    assert agent.status()["provider"] == CPU
    assert agent.answer(frame())["model"]["release"] == 1
    agent.settle()
    assert agent.answer(frame())["model"]["release"] == 1
    # By the CPU; in its self-test; by its new engine. That of the runtime before is gone.
    assert provider.opened == [False, True, True]
    assert len(engine_folders(agent)) == 1 and agent.status()["provider"] == PROVIDER
    # One that cannot be made is tried three times, also by other processes, then a day later.
    monkeypatch.setattr("edge.machine._onnxruntime", lambda: "99.2")
    provider.instead = lambda: None
    provider.made.clear()
    for _ in range(6):
        agent = provider.device(fleet).start()
        agent.settle()
        assert agent.answer(frame())["model"]["release"] == 1
        assert "answers by CPUExecutionProvider" in agent.problems["engine"]
    assert len(provider.made) == 3
    provider.instead = None
    fleet.clock.pass_(hours=25)
    agent.settle()
    assert not agent.problems and agent.status()["provider"] == PROVIDER


def test_an_engine_that_a_bad_disk_changed_or_that_cannot_be_opened_stops_no_answer(fleet: Fleet) -> None:
    provider = Compiler()
    agent = provider.device(fleet).start()
    update(agent)
    plan = next((agent._files.root / "engines").rglob("one.engine"))
    plan.write_bytes(b"noise")
    agent = provider.device(fleet).start()
    assert agent.answer(frame())["model"]["release"] == 1
    assert not agent.kept.engines.has(agent.state.serving)  # type: ignore[arg-type]
    agent.settle()
    assert agent.kept.engines.has(agent.state.serving)  # type: ignore[arg-type]

    def dies(model: Path, threads: int, engine: Engine | None = None) -> OpenedHere:
        if engine is not None:
            raise RunnerDied("crash", "signal 11")
        return OpenedHere(model, threads)

    device = provider.device(fleet)
    device.open_runner = dies
    agent = device.start()
    assert agent.answer(frame())["model"]["release"] == 1
    assert agent.state.good is not None and agent.state.quarantine == ()


@dataclass
class Compiled:
    """A device that runs release 1 by its engine; release 2 is assigned."""

    fleet: Fleet
    second: Bundle
    template: Path

    def device(self, folder: Path, system: System) -> Device:
        if not folder.exists():
            shutil.copytree(self.template, folder)
        return Compiler(system).device(self.fleet, folder)


@pytest.fixture
def waiting(fleet: Fleet) -> Compiled:
    device = Compiler().device(fleet)
    update(device.start())
    second = fleet.bundle(2)
    fleet.publish(second)
    return Compiled(fleet, second, device.folder)


def goes_on(device: Device) -> None:
    """A fresh process answers at once, and ends on the new release by a whole engine, with nothing left over."""
    agent = device.start()
    assert agent.answer(frame())["model"]["release"] in (1, 2)
    for _ in range(3):
        agent = device.start()
        assert update(agent)["model"]["release"] in (1, 2)
    assert agent.state.phase == "IDLE" and agent.state.good is not None and agent.state.good.release == 2
    assert agent.kept.engines.of(agent.state.good) is not None
    assert not agent.problems
    assert len(engine_folders(agent)) == len(agent._files.names("engines")) == 2


def test_killed_at_every_step_while_a_model_is_compiled(
    waiting: Compiled, tmp_path: Path, count: Callable[[int, int], int]
) -> None:
    counting = KilledAt(-1, "never")
    update(waiting.device(tmp_path / "counted", counting).start())
    moments = [(step, each) for step in range(1, counting.steps + 1) for each in ("before", "half", "after")]
    for step, moment in moments[:: count(29, 1)]:
        folder = tmp_path / f"{step}-{moment}"
        with pytest.raises(Killed):
            update(waiting.device(folder, KilledAt(step, moment)).start())
        goes_on(waiting.device(folder, System()))
        shutil.rmtree(folder)


@pytest.mark.parametrize("survives", ["nothing", "names", "half"])
def test_an_engine_is_durable_before_it_is_believed(fleet: Fleet, tmp_path: Path, survives: str) -> None:
    """Power cut at each step of keeping an engine: what is found afterwards is whole, or is none."""
    agent = Compiler().device(fleet).start()
    update(agent)
    held = agent.state.good
    assert held is not None

    def keep(root: Path, disk: System) -> Engines:
        made = Engines(Files(root, disk), PROVIDER, lambda: "here")
        engine = made.begin(held, "1")
        (engine.folder / "plans").mkdir()
        disk.write(engine.folder / "plans" / "one.engine", b"plan" * 50)
        made.keep(held, engine)
        return made

    counting = KilledAt(-1, "never")
    keep(tmp_path / "counted", counting)
    for step in range(1, counting.steps + 1):
        before, after = tmp_path / f"before-{step}", tmp_path / f"after-{step}"
        disk = PowerCut(step, survives)
        with pytest.raises(Killed):
            keep(before, disk)
        disk.after_the_cut(before, after)
        after.mkdir(exist_ok=True)
        left = Engines(Files(after), PROVIDER, lambda: "here")
        engine = left.of(held)
        if engine is not None:
            assert (engine.folder / "plans" / "one.engine").read_bytes() == b"plan" * 50
        left.tidy([held])
        assert len(left._files.folders("engines")) == (engine is not None)
    assert keep(tmp_path / "whole", System()).of(held) is not None


def test_a_manifest_says_by_provider_how_far_answers_may_differ() -> None:
    golden = {"tolerance": 0.001, "same_first_class": 1.0, "providers": {PROVIDER: {"tolerance": 0.02}}}
    assert tolerated(golden, None) == {"tolerance": 0.001, "same_first_class": 1.0}
    assert tolerated(golden, Engine(PROVIDER, Path("x")))["tolerance"] == 0.02
    assert tolerated(golden, Engine("CUDAExecutionProvider", Path("x")))["tolerance"] == 0.001


def test_a_provider_that_this_runtime_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx_file(1))
    said = compiled(tmp_path / "model.onnx", Engine("CUDAExecutionProvider", tmp_path))
    assert "does not run it by CUDAExecutionProvider" in said


def let_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the agent asks, 100 seconds are gone."""
    seconds = iter(range(0, 100_000, 100))
    monkeypatch.setattr("edge.agent.monotonic", lambda: float(next(seconds)))


def test_a_build_of_hours_keeps_a_device_neither_from_news_nor_from_reports(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_time_pass(monkeypatch)
    provider = Compiler()
    device = provider.device(fleet)
    agent = device.start()
    update(agent)
    provider.slow = True
    second = fleet.bundle(2)
    fleet.publish(second, poll_every=300)
    for _ in range(3):
        agent.look()
        agent.settle()
        agent.deliver()
        # It ends because a look is due, and what is being made goes on, counted once.
        assert agent.paused and agent.state.phase == "PREPARE"
        assert agent.state.preparing[1] == 1 and len(provider.builds) == 2
        assert agent.answer(frame())["model"]["release"] == 1
        assert device.events()[-1]["event"] == "assigned"
        assert len(engine_folders(agent)) == 2
    # News in the middle: nobody wants it any more.
    fleet.assign(base={"bundle": agent.state.good.id, "release": 1})  # type: ignore[union-attr]
    agent.look()
    agent.settle()
    assert provider.builds[-1].closed and not agent.paused
    assert len(engine_folders(agent)) == 1 and agent.state.phase == "IDLE"
    fleet.publish(second, poll_every=300)
    agent.look()
    agent.settle()
    provider.builds[-1].under_way = False
    update(agent)
    assert agent.state.good is not None and agent.state.good.release == 2 and len(provider.builds) == 3
    assert not agent.problems


def test_a_candidates_build_comes_before_that_of_what_serves_and_ends_with_the_agent(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_time_pass(monkeypatch)
    provider = Compiler()
    update(provider.device(fleet).start())
    monkeypatch.setattr("edge.machine._onnxruntime", lambda: "99.1")
    provider.slow = True
    agent = provider.device(fleet).start()
    agent.look()
    agent.settle()
    assert agent.paused and len(provider.builds) == 2
    fleet.publish(fleet.bundle(2), poll_every=300)
    agent.look()
    agent.settle()
    assert provider.builds[1].closed and not provider.builds[2].closed and agent.paused
    assert agent.answer(frame())["model"]["release"] == 1
    agent.close()
    agent.settle()
    assert provider.builds[2].closed and len(provider.builds) == 3
    assert engine_folders(agent) == []


def test_a_model_is_compiled_in_a_process_that_does_not_outlive_its_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx_file(1))
    (tmp_path / "engine").mkdir()
    engine = Engine("CUDAExecutionProvider", tmp_path / "engine")
    build = ProcessBuild(tmp_path / "model.onnx", engine)
    while not build.ended(60):
        pass
    said = build.said()
    assert said is not None and "CUDAExecutionProvider" in said
    # A FIFO in the model's place keeps the process waiting for ever; it ends once its agent is gone,
    os.mkfifo(tmp_path / "fifo")
    process = subprocess.Popen(
        [sys.executable, "-m", engines.__name__, str(tmp_path / "fifo"), CPU, str(tmp_path / "engine")],
        stdin=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=120) == 1
    finally:
        process.kill()
        process.wait()
    # and, where the agent is there, after hours.
    build = ProcessBuild(tmp_path / "fifo", engine)
    assert not build.ended(0)
    monkeypatch.setattr("edge.engines.monotonic", lambda: 1e12)
    assert build.ended(0) and build.said() is None
    build.close()
