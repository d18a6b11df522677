"""A device group in the middle of things: real agents in this process, a clock that can be put ahead, ticks."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from desk import LENIENT, Desk
from test_device_reports import photograph

from edge.agent import Surroundings
from edge.device import Device
from edge.formats import bucket_of
from edge.runner import OpenedHere
from edge.selftest import examine
from edge.settings import Settings
from resources import clocks
from tests.world import shapes_project
from visionops.edge_repository import repository_of
from visionops.simulation.declared_faults import Fault
from visionops.simulation.simulated_device import SimulatedDevice
from visionops_assets.delivery.rollout_steps import rollouts_of
from visionops_assets.delivery.signers import Keys
from visionops_assets.rollout.rollouts import Rollout

RULES = {"waves": [0.3, 0.6, 1.0], "dwell": "PT1H", "max_duration": "P1D"}
GROUP = {"observe": 2, "poll_every": 1, "report_every": 60, "budget": {"cpu_ms": 1000.0}}


class Group:
    """A device group whose project file has rules for rollouts, and its devices."""

    def __init__(
        self, desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "line-1"
    ) -> None:
        self.desk, self.folder, self.name = desk, folder, name
        self.devices: dict[str, Device] = {}
        self.silent: set[str] = set()
        self._ahead = timedelta(0)
        monkeypatch.setattr(clocks, "now", lambda: datetime.now(UTC) + self._ahead)

    def declare(self, rules: Mapping[str, Any] | None = RULES, **group: Any) -> None:
        declared = {**GROUP, **group, **({"rollout": dict(rules)} if rules is not None else {})}
        gate = {**self.desk.world.project.gate.model_dump(mode="json"), **LENIENT}
        self.desk.world.projects = [shapes_project(gate=gate, delivery={"groups": {self.name: declared}})]
        self.desk.save()

    def provision(self, *names: str, **around: Any) -> None:
        """Devices that are enrolled, each opened in this process."""
        for name in names:
            folder = self.folder / name
            self.desk.run(
                *("fleet", "provision", "shapes", "--group", self.name, "--device", name, "--to", str(folder))
            )
            stands = {"open_runner": OpenedHere, "examine": examine, "now": lambda: clocks.now(), **around}
            self.devices[name] = Device(Settings.read(folder), Surroundings(**stands))

    def suffers(self, name: str, *faults: Fault) -> None:
        """A device goes on as a simulated one does that was declared to have these faults."""
        self.devices[name].close()
        simulated = SimulatedDevice(name, self.folder / name, (), 1.0, faults=faults)
        self.devices[name] = simulated.opened()

    def close(self) -> None:
        for each in self.devices.values():
            each.close()

    def later(self, **span: float) -> None:
        """The clock by which reports are collected and waves last goes on by so much."""
        self._ahead += timedelta(**span)

    def live(self, rounds: int = 1) -> None:
        """What devices do in a while: look, take what is theirs, answer, report."""
        for _ in range(rounds):
            for name, device in self.devices.items():
                agent = device.agent
                agent.attempt("repository", agent.look)
                agent.attempt("update", agent.settle)
                for seed in range(3):
                    if agent.state.serving is not None:
                        device.answer(photograph(seed))
                agent.attempt("update", agent.settle)
                if name not in self.silent:
                    # Without anything new too: a sign of life.
                    agent._outbox._signed_at = float("-inf")  # type: ignore[union-attr]
                    agent.deliver()

    def tick(self, code: int = 0) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.desk.json("tick", "shapes", code=code)
        return found

    def goes_on(self, times: int = 1, **span: float) -> list[str]:
        """Devices live, their reports are collected, and the sensors look, after a time; what ticks said."""
        said = []
        for _ in range(times):
            self.live()
            self.later(**(span or {"hours": 1, "minutes": 1}))
            said += [each["reason"] for each in self.tick() if each["outcome"]]
        return said

    def runs(self) -> dict[str, int]:
        """By device, the version that answers."""
        return {
            name: int(device.answer(photograph(1))["model"]["version"])
            for name, device in self.devices.items()
        }

    def assignment(self) -> dict[str, Any]:
        found = repository_of("shapes", Keys({})).assignment(self.name)
        assert found is not None
        return found

    def rollouts(self) -> list[Rollout]:
        return rollouts_of(self.desk.world.registry.models.get("shapes"))

    def status(self) -> dict[str, Any]:
        """What `rollout status --json` says of its newest rollout."""
        (found,) = self.desk.json("rollout", "status", "shapes")["rollouts"]
        return dict(found)

    def in_order(self, rollout: str) -> Sequence[str]:
        """Its devices by their buckets."""
        return sorted(self.devices, key=lambda name: bucket_of(rollout, name))
