"""One simulated device: the agent as it ships, real images shown in turn, and the faults it was declared to have.

The model runs in the agent's own process, so that a fleet fits on a desk; all else is what a device does.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from edge.agent import Surroundings
from edge.device import Device
from edge.engines import Engine
from edge.files import System
from edge.runner import OpenedHere, RunnerDied
from edge.selftest import examine
from edge.settings import Settings
from edge.sources import Frame
from visionops.simulation.declared_faults import Fault

# Of images that were due while no model answered, so many are shown at once.
_MOST_AT_ONCE = 10


@dataclass(frozen=True)
class SimulatedDevice:
    """A provisioned folder, its faults, and the images its camera sees, one each `every` seconds, from `first` on."""

    name: str
    folder: Path
    images: tuple[Path, ...]
    every: float
    first: int = 0
    faults: tuple[Fault, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "images": [str(each) for each in self.images],
            "every": self.every,
            "first": self.first,
            "faults": [[each.name, each.amount] for each in self.faults],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SimulatedDevice:
        """One that `to_json` gave."""
        return cls(
            name=content["name"],
            folder=Path(content["folder"]),
            images=tuple(Path(each) for each in content["images"]),
            every=content["every"],
            first=content["first"],
            faults=tuple(Fault(name, amount) for name, amount in content["faults"]),
        )

    def opened(self) -> Device:
        """The device, to be run. Raises `SettingsError`."""
        settings = Settings.read(self.folder)
        amounts = {each.name: each.amount for each in self.faults}
        if "silent" in amounts:
            settings = replace(settings, reports=None)
        factor = amounts.get("slow", 1.0)
        crash_after = int(amounts.get("crash-after", 0))

        def open_runner(model: Path, threads: int, engine: Engine | None) -> FaultyRunner:
            return FaultyRunner(OpenedHere(model, threads, engine), factor, crash_after)

        def examined(
            model: Path,
            golden: Path,
            rules: Mapping[str, Any],
            budget: Mapping[str, Any],
            engine: Engine | None,
        ) -> tuple[str | None, str]:
            # What is measured here takes so many times as long there; of memory the agent's own counts here.
            there = {"cpu_ms": budget["cpu_ms"] / factor} if "cpu_ms" in budget else {}
            refused, said = examine(model, golden, rules, there, engine)
            return (
                refused,
                said if factor == 1 else f"{said} (on a processor {factor:g} times as fast as this device's)",
            )

        around = Surroundings(open_runner=open_runner, examine=examined)
        if "clock" in amounts:
            around = replace(around, now=_Clock(int(amounts["clock"])), synchronised=lambda: False)
        full = "disk" in amounts
        disk = SmallDisk(settings.path(settings.state), int(amounts["disk"])) if full else None
        return Device(settings, around, disk)

    def shown(self) -> ImagesInTurn:
        """What its camera sees."""
        return ImagesInTurn(self.images, self.every, self.first)


class ImagesInTurn:
    """A source that shows images over and over, one each `every` seconds."""

    def __init__(self, images: Sequence[Path], every: float, first: int) -> None:
        self._images, self._every, self._next = images, every, first
        self._due = monotonic()

    def frames(self) -> Iterator[Frame]:
        """The images that are due."""
        # What a camera saw while nobody looked is gone.
        self._due = max(self._due, monotonic() - _MOST_AT_ONCE * self._every)
        while monotonic() >= self._due:
            self._due += self._every
            image = self._images[self._next % len(self._images)]
            self._next += 1
            yield Frame(image.name, str(self._next), image.read_bytes())

    def done(self, frame: Frame) -> None:
        """Nothing is kept of it."""

    def settled(self) -> None:
        """Nothing is kept of them."""


class FaultyRunner:
    """A model that takes `factor` times the processor time it takes, and dies after `crash_after` images, if any."""

    def __init__(self, opened: OpenedHere, factor: float, crash_after: int) -> None:
        self._opened, self._factor, self._left = opened, factor, crash_after or -1

    def answer(self, image: bytes) -> dict[str, Any]:
        """What the model says. Raises what it raises, and `RunnerDied` where it is declared to."""
        if self._left == 0:
            raise RunnerDied("crash", "the model's process ended, as was declared")
        self._left -= 1
        found = self._opened.answer(image)
        if "cpu_ms" in found:
            found["cpu_ms"] *= self._factor
        return found

    def measure(self) -> dict[str, Any]:
        """What the log has of the image that was answered last."""
        return self._opened.measure()

    def close(self) -> None:
        """End it."""
        self._opened.close()


class SmallDisk(System):
    """A disk on which `size` bytes fit below a folder."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size

    def write(self, path: Path, content: bytes) -> None:
        """Raises OSError where it is full."""
        self._need(len(content) - (path.stat().st_size if path.exists() else 0), path)
        super().write(path, content)

    def append(self, path: Path, content: bytes) -> None:
        """Raises OSError where it is full."""
        self._need(len(content), path)
        super().append(path, content)

    def _need(self, more: int, path: Path) -> None:
        used = sum(each.stat().st_size for each in self._folder.rglob("*") if each.is_file())
        if used + more > self._size:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))


class _Clock:
    """The time, in another year."""

    def __init__(self, year: int) -> None:
        now = datetime.now(UTC)
        self._apart = now - now.replace(year=year, day=min(now.day, 28))

    def __call__(self) -> datetime:
        return datetime.now(UTC) - self._apart
