"""The demo's devices: three on each line, simulated. They take what is promoted in waves, one is killed while it does,
a line whose hardware is too slow refuses it and is held, and a rollback reaches them all; and the account of it,
`demo-fleet.json`.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from resources.error_family import Unavailable
from resources.safe_files import whole_file
from visionops.simulation.declared_faults import Fault

if TYPE_CHECKING:
    from visionops.child_process import Children
    from visionops_assets.champions.history import HistoryEntry, Production
    from visionops_assets.config.project import Project

WHO = "VisionOps demo"
# Seconds between two images of a device, and between two looks at what became of it.
_EVERY, _LOOK_EVERY = 0.2, 0.05
_WITHIN_SECONDS = 180.0
# How much slower the hardware of a line with a budget becomes that is to refuse the second version.
_SLOWER = 40.0
_DRILL = "a drill: does a rollback reach every device?"
_FORMAT = 1


def repository_made(project: Project) -> None:
    """Make keys and repository of a project whose file names device groups, where they are not there: without them
    whatever is promoted waits for devices that nobody has."""
    from resources.settings import Devices
    from visionops.edge_repository import changing, projects_with_repository
    from visionops_assets.delivery.signers import keys_folder, make_keys

    if not project.delivery.groups or project.delivered_as in projects_with_repository():
        return
    if not Devices.read().keys:
        make_keys(keys_folder())
    with changing(project.project) as repository:
        repository.create()


@dataclass(frozen=True)
class Reached:
    """That every device runs a version: after which step of the story, and how long after it was published."""

    step: str
    version: int
    devices: int
    seconds: float
    said: str


@dataclass(frozen=True)
class ByHand:
    """What a person types in the drill: `promote` what a verdict passed; `deliver` what is in production to devices;
    `tell` Dagster what is; `collect` what devices reported. Each raises what the command does."""

    promote: Callable[[str], object]
    deliver: Callable[[], object]
    tell: Callable[[], object]
    collect: Callable[[], object]


class DemoFleet:
    """The devices of the demo while it runs, and its account at `path`. Without `devices` nothing of it happens."""

    def __init__(self, project: Project, devices: int, path: Path, say: Callable[[str], None]) -> None:
        from visionops.simulation.provisioned_devices import folder_of, names

        self._project, self._path, self._say = project, path, say
        self._opened = ExitStack()
        self._children: Children | None = None
        self._faults: tuple[tuple[str, Fault], ...] = ()
        self._folder = folder_of(project.project)
        self._by_group = names(list(project.delivery.groups), devices)
        self._devices = [device for each in self._by_group.values() for device in each]
        self._told = _read_account(path)

    def __enter__(self) -> DemoFleet:
        """Nothing runs before there is something to run."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the devices, which keep what they have."""
        self._opened.close()

    def takes(self, step: str) -> None:
        """Wait until every device runs what its group is assigned, and tell of it. Starts them where they are not."""
        begun = time.perf_counter()
        if step in self._told or not self._started():
            return
        version = self._wait()
        lines = ", ".join(self._by_group)
        self._tell(step, version, begun, f"{len(self._devices)} devices of {lines} run version {version}")

    @contextmanager
    def one_is_killed(self, step: str, by_hand: ByHand) -> Iterator[None]:
        """Kill one device as soon as it is seen to take another model than before, and tell how that went on: at once,
        or by waves until each has ended."""
        if step in self._told or not self._started():
            yield
            return
        self._slow_down()
        by_hand.collect()
        device, stop = self._devices[len(self._devices) // 2], threading.Event()
        phases: list[str] = []
        watch = threading.Thread(target=self._kill_mid_update, args=(device, stop, phases), daemon=True)
        watch.start()
        try:
            yield
            begun = time.perf_counter()
            self._lead(by_hand)
            version = self._wait()
        finally:
            stop.set()
            watch.join()
        doing = {"DOWNLOAD": "fetched", "SELFTEST": "tested", "TRIAL": "tried"}
        killed = (
            f"{device} was killed while it {doing.get(phases[0], 'took')} it, is started again and goes on; "
            if phases
            else ""
        )
        self._tell(step, version, begun, f"{killed}{self._run_now()}")

    def rolled_back(self, by_hand: ByHand) -> None:
        """Roll back what is promoted, see every device go back, and promote it again by its verdict.

        What an interrupted demo began is completed. Nothing happens where something else is in production meanwhile.
        """
        if "again" in self._told:
            return
        if (line := self._slow_line()) is not None and self._children is None:
            self._faults = ((line, Fault("slow", _SLOWER)),)
        if not self._started():
            return
        now = self._production()
        begun_here = now.since is not None and _is_drill(now.since)
        if not begun_here and (now.held_by is not None or now.was_before() is None):
            return
        self._say("\na drill: what is in production is rolled back, on all lines")
        if "rollback" not in self._told:
            begun = time.perf_counter()
            self._roll_back(by_hand)
            version = self._wait()
            self._tell("rollback", version, begun, f"rolled back: {self._run_now()}")
        begun = time.perf_counter()
        if self._promote_again(by_hand):
            version = self._wait()
            self._tell("again", version, begun, f"promoted again by its verdict: {self._run_now()}")

    def _roll_back(self, by_hand: ByHand) -> None:
        from visionops import services
        from visionops_assets.promotion.production_change import Attribution
        from visionops_assets.promotion.rollback import rollback, take_along

        name, registry, since = self._project.project, services.registry(), self._production().since
        by = Attribution(WHO, datetime.now(UTC), _DRILL)
        # Interrupted after it, the demo is not to go back twice.
        if since is None or not _is_drill(since):
            change = rollback(registry, project=name, by=by)
            take_along(registry, change, project=name, follow=self._project.delivery.following, by=by)
        by_hand.deliver()
        by_hand.tell()

    def _promote_again(self, by_hand: ByHand) -> bool:
        """Lift the drill's hold and promote what it left; False where no verdict promoted that."""
        from visionops import services
        from visionops_assets.promotion.production_change import Attribution
        from visionops_assets.promotion.rollback import release

        now = self._production()
        if now.since is not None and _is_drill(now.since):
            by = Attribution(WHO, datetime.now(UTC), "the drill is over")
            release(services.registry(), project=self._project.project, by=by)
            came = now.arrival(now.since.from_version) if now.since.from_version is not None else None
            if came is None or came.verdict is None:
                return False
            by_hand.promote(came.verdict)
        self._bring_groups_back()
        by_hand.deliver()
        return True

    def _bring_groups_back(self) -> None:
        """Groups that the drill took along get what they ran before it, at once: their rollout of it was completed."""
        from visionops import services
        from visionops_assets.champions.history import production
        from visionops_assets.promotion.production_change import Attribution, deliver_to_group
        from visionops_assets.promotion.rollback import release

        name, registry = self._project.project, services.registry()
        by = Attribution(WHO, datetime.now(UTC), "the drill is over")
        for group in self._project.delivery.following:
            held = production(registry.models.get(name), group).held_by
            if held is None or not _is_drill(held):
                continue
            release(registry, project=name, by=by, group=group)
            deliver_to_group(registry, project=name, group=group, by=by)

    def _lead(self, by_hand: ByHand) -> None:
        """Tick until every rollout has ended, telling of each step; raises `Unavailable` for one that does not."""
        from visionops import services
        from visionops_assets.delivery.rollout_page import rollouts_now

        told: dict[str, str] = {}
        deadline = time.monotonic() + _WITHIN_SECONDS
        while True:
            model = services.registry().models.get(self._project.project)
            found = rollouts_now(self._project, model, services.artifacts())
            for each in found:
                rollout = each.rollout
                wave = f"wave {rollout.wave + 1} of {len(rollout.waves)}"
                now = f"{rollout.ended}, {rollout.why}" if rollout.ended else wave
                if told.get(rollout.id) != now:
                    told[rollout.id] = now
                    self._say(
                        f"  {rollout.group}: version {rollout.version} instead of {rollout.base}: {now}"
                    )
            if all(each.rollout.ended for each in found):
                return
            if time.monotonic() > deadline:
                left = ", ".join(each.sentence() for each in found if not each.rollout.ended)
                raise Unavailable(
                    f"no rollout ended within {_WITHIN_SECONDS:g} s: {left}; `visionops rollout status "
                    f"{self._project.project}` says more, `visionops demo --fleet 0` goes on without devices"
                )
            if self._children is not None:
                self._children.check()
            by_hand.collect()
            by_hand.deliver()

    def _slow_line(self) -> str | None:
        """The line whose hardware is to be too slow: one that has a budget, and gets versions in waves."""
        groups = self._project.delivery.groups
        budgeted = [name for name in self._by_group if groups[name].rollout and groups[name].budget.cpu_ms]
        return budgeted[-1] if budgeted else None

    def _slow_down(self) -> None:
        """From now on the slow line is; its devices go on with what they have."""
        line = self._slow_line()
        if line is None:
            return
        self._opened.close()
        self._children = None
        self._faults = ((line, Fault("slow", _SLOWER)),)
        self._started()
        self._say(f"  {line} is simulated {_SLOWER:g} times as slow from now on")

    def _run_now(self) -> str:
        """What devices run, by line where that is not the same."""
        by_version: dict[int, list[str]] = {}
        for group, (version, _) in self._assigned().items():
            by_version.setdefault(version, []).append(group)
        if len(by_version) == 1:
            return f"all {len(self._devices)} devices run version {next(iter(by_version))}"
        return " and ".join(
            f"devices of {', '.join(groups)} run version {version}"
            for version, groups in sorted(by_version.items(), reverse=True)
        )

    def _production(self) -> Production:
        from visionops import services
        from visionops_assets.champions.history import production

        return production(services.registry().models.get(self._project.project))

    def _started(self) -> bool:
        """Start the devices where they are to run and do not; False where they are not to, or have nothing to run."""
        from visionops.child_process import children
        from visionops.simulation import device_processes
        from visionops.simulation.provisioned_devices import provisioned

        if not self._devices or not self._assigned():
            return False
        if self._children is not None:
            return True
        simulated = provisioned(self._project, self._by_group, every=_EVERY, faults=self._faults, who=WHO)
        (self._folder / device_processes.PROCESSES).unlink(missing_ok=True)
        config = device_processes.configuration(self._folder, simulated)
        self._children = self._opened.enter_context(children())
        self._children.start(
            "simulated devices", device_processes.command(config), self._folder / "fleet.log", {}
        )
        return True

    def _assigned(self) -> dict[str, tuple[int, int]]:
        """By group, the version and release that it is assigned."""
        from visionops.edge_repository import published

        running = published(self._project.delivered_as).running()
        return {
            group: (int(manifest["model"]["version"]), int(manifest["release"]))
            for group, (_, manifest) in running.items()
        }

    def _wait(self) -> int:
        """Until every device answers by what its group is assigned, and has kept it; its version, the newest of
        several. Raises `Unavailable` naming those that did not."""
        assigned, deadline = self._assigned(), time.monotonic() + _WITHIN_SECONDS
        while left := [
            device
            for group, devices in self._by_group.items()
            for device in devices
            if group in assigned and not self._runs(device, assigned[group][1])
        ]:
            if self._children is not None:
                self._children.check()
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{', '.join(left)} of {self._project.project} did not take what is assigned within "
                    f"{_WITHIN_SECONDS:g} s: {self._folder / left[0] / 'agent.log'} says why; `visionops demo --fleet "
                    "0` goes on without devices"
                )
            time.sleep(_LOOK_EVERY)
        return max(version for version, _ in assigned.values())

    def _runs(self, device: str, release: int) -> bool:
        from visionops.simulation.device_processes import status_of

        status = status_of(self._folder / device)
        serving = status.get("serving") or {}
        return status.get("phase") == "IDLE" and serving.get("release") == release

    def _kill_mid_update(self, device: str, stop: threading.Event, phases: list[str]) -> None:
        from edge.kept import STATE
        from edge.settings import Settings
        from visionops.simulation.device_processes import processes, read_left

        while not stop.wait(_LOOK_EVERY / 5):
            state = read_left(self._folder / device / Settings.state / STATE)
            pid = processes(self._folder).get(device, {}).get("pid")
            if pid is not None and None not in (state.get("good"), state.get("candidate")):
                phases.append(str(state.get("phase")))
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return

    def _tell(self, step: str, version: int, begun: float, said: str) -> None:
        seconds = round(time.perf_counter() - begun, 1)
        self._told[step] = Reached(step, version, len(self._devices), seconds, said)
        content = {"format": _FORMAT, "steps": [asdict(each) for each in self._told.values()]}
        with whole_file(self._path) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1))
        self._say(f"  {said} ({seconds:.1f} s)")


def _is_drill(entry: HistoryEntry) -> bool:
    return (entry.kind, entry.who, entry.why) == ("rollback", WHO, _DRILL)


def _read_account(path: Path) -> dict[str, Reached]:
    """The steps of which an earlier demo told."""
    from visionops.simulation.device_processes import read_left

    return {each["step"]: Reached(**each) for each in read_left(path).get("steps", [])}
