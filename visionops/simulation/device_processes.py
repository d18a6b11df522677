"""A process a simulated device, all forked from one that has imported what an agent needs: a fifth of the memory and
of the time that as many interpreters take. One that dies is started again, as a device's service manager does.

`python -m visionops.simulation.device_processes CONFIG` runs those of a file until a signal; what becomes of each
stands in `processes.json` beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from edge.files import Files
from visionops.simulation.simulated_device import SimulatedDevice

CONFIGURATION, PROCESSES = "running.json", "processes.json"
_LOOK_EVERY = 0.1
# Until one that died is started again; longer each time, where it does not live for long.
_RESTART_SECONDS, _MOST_RESTART_SECONDS, _LIVES_SECONDS = 1.0, 30.0, 10.0
# Until those that were told to end are killed.
_END_WITHIN = 3.0
_PR_SET_PDEATHSIG = 1


def configuration(folder: Path, devices: Sequence[SimulatedDevice]) -> Path:
    """Write what `main` reads, whole or not at all."""
    _write(folder, CONFIGURATION, [each.to_json() for each in devices])
    return folder / CONFIGURATION


def command(config: Path) -> list[str]:
    """What runs the devices of a configuration."""
    return [sys.executable, "-m", __name__, str(config)]


def status_of(folder: Path) -> dict[str, Any]:
    """What a device in a folder told of itself last; `{}` where it did not yet."""
    from edge.agent import STATUS
    from edge.settings import Settings

    return read_left(folder / Settings.state / STATUS)


def read_left(file: Path) -> dict[str, Any]:
    """What somebody else left in a JSON file, who may be about to write it; `{}` where it cannot be read."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def processes(folder: Path) -> dict[str, dict[str, Any]]:
    """What became of each device's process: `pid`, None where it is started again soon, `starts`, and how it `ended`
    last. `{}` where none was started yet."""
    try:
        found = json.loads((folder / PROCESSES).read_text())
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass
class _Process:
    device: SimulatedDevice
    pid: int | None = None
    starts: int = 0
    ended: str = ""
    began: float = 0.0
    start_at: float = 0.0
    rest: float = 0.0


class Supervisor:
    """Starts the devices, and each again that dies."""

    def __init__(self, folder: Path, devices: Sequence[SimulatedDevice]) -> None:
        self._folder = folder
        self._devices = {each.name: _Process(each) for each in devices}
        self._stopping = False

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopping:
            changed = self._reap()
            for process in self._devices.values():
                if process.pid is None and time.monotonic() >= process.start_at and not self._stopping:
                    self._start(process)
                    changed = True
            if changed:
                self._note()
            time.sleep(_LOOK_EVERY)
        self._end()

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """End all of them soon; a handler of signals."""
        self._stopping = True

    def _start(self, process: _Process) -> None:
        parent = os.getpid()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _in_child(parent, lambda: _run(process.device), process.device.folder / "agent.log")
        process.pid, process.began = pid, time.monotonic()
        process.starts += 1

    def _reap(self) -> bool:
        changed = False
        for process in self._devices.values():
            if process.pid is None:
                continue
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid == 0:
                continue
            code = os.waitstatus_to_exitcode(status)
            now, lived = time.monotonic(), time.monotonic() - process.began
            process.ended = f"signal {-code}" if code < 0 else f"exit code {code}"
            longer = 0.0 if lived >= _LIVES_SECONDS else 2 * process.rest
            process.rest = min(max(longer, _RESTART_SECONDS), _MOST_RESTART_SECONDS)
            process.pid, process.start_at = None, now + process.rest
            changed = True
        return changed

    def _note(self) -> None:
        told = {
            name: {"pid": each.pid, "starts": each.starts, "ended": each.ended}
            for name, each in self._devices.items()
        }
        _write(self._folder, PROCESSES, told)

    def _end(self) -> None:
        deadline = time.monotonic() + _END_WITHIN
        self._send(signal.SIGTERM)
        while any(each.pid is not None for each in self._devices.values()):
            if time.monotonic() > deadline:
                self._send(signal.SIGKILL)
            self._reap()
            time.sleep(_LOOK_EVERY / 5)
        self._note()

    def _send(self, number: signal.Signals) -> None:
        for process in self._devices.values():
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)


def main(config: Path) -> None:
    """Run the devices of a configuration until a signal."""
    devices = [SimulatedDevice.from_json(each) for each in json.loads(config.read_text())]
    _import_what_agents_need()
    supervisor = Supervisor(config.parent, devices)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.stop)
    supervisor.run()


def _import_what_agents_need() -> None:
    """So that a child finds it; nothing of it runs a thread before it is used."""
    import numpy
    import onnxruntime
    import tuf.ngclient

    import edge.images.decode
    import edge.onnx_model

    assert all((numpy, onnxruntime, tuf.ngclient, edge.images.decode, edge.onnx_model))
    # What is there now is shared with all children, and stays so.
    gc.collect()
    gc.freeze()


def _in_child(parent: int, work: Callable[[], None], log: Path) -> None:
    """Do the work of a forked child and end it; it dies with its parent."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        # What is drawn at random would be the same on all.
        random.seed()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        work()
        code = 0
    except Exception as error:
        print(f"error: {error}", flush=True)
    finally:
        os._exit(code)


def _run(simulated: SimulatedDevice) -> None:
    device = simulated.opened()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: device.stop())
    device.run(simulated.shown(), say=lambda said: print(said, flush=True))


def _write(folder: Path, name: str, content: Any) -> None:
    Files(folder).write(name, json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
