"""A project with a device group that rollouts lead, without a process, a server or a device: the registry in memory,
what devices told as the fold would have stored it, and a pass over all that can be killed at each of its writes.
"""

import copy
import io
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from edge.formats import bucket_of
from resources.models.records import RegisteredModel
from resources.storage import ArtifactStore
from tests.promotion.promotion_world import PROJECT, FakeRegistry, Killed, hour, judged, trained
from tests.world import shapes_project
from visionops_assets.champions.history import production
from visionops_assets.config.project import Project
from visionops_assets.delivery.enrolment import Enrolled
from visionops_assets.delivery.reported_devices import COLUMNS
from visionops_assets.delivery.repository import Running
from visionops_assets.delivery.rolling_out import conduct
from visionops_assets.delivery.rollout_reports import Told, store_told
from visionops_assets.delivery.rollout_steps import rollouts_of, wanted_rollout
from visionops_assets.promotion.promote import promote
from visionops_assets.rollout.rollouts import Rollout

GROUP = "line-1"
RULES = {"waves": [0.25, 0.5, 1.0], "dwell": "PT1H", "max_duration": "P2D"}
BUNDLES = {1: "bundle-one", 2: "bundle-two", 3: "bundle-three"}


class CountedStore(ArtifactStore):
    """A store whose writes count among those of a registry, and may be killed as they may."""

    def write(self, key: str, content: bytes) -> None:
        registry: FakeRegistry = object.__getattribute__(self, "__dict__").get("_registry") or _NOBODY
        registry.write(lambda: super(CountedStore, self).write(key, content))


_NOBODY = FakeRegistry()


@dataclass
class RolloutWorld:
    """`now` is the time of the next pass, in hours since the story began; `told` what devices told."""

    root: Path
    rules: Mapping[str, Any] = field(default_factory=lambda: dict(RULES))
    devices: int = 8
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    now: float = 3.0
    told: dict[str, Told] = field(default_factory=dict)
    # What the group was assigned by the last publication.
    assignment: dict[str, Any] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store = self._opened()
        for name in self.names:
            enrolled = Enrolled(PROJECT, name, GROUP, "key", "PEM", hour(0).isoformat(), "ada")
            self.store.write_json(f"fleet/{PROJECT}/devices/{name}.json", asdict(enrolled))
        self.promote("one", 1)

    @property
    def names(self) -> list[str]:
        return [f"cam-{number:02d}" for number in range(self.devices)]

    @property
    def project(self) -> Project:
        groups = {GROUP: {"rollout": dict(self.rules), "report_every": 60}}
        return shapes_project(project=PROJECT, delivery={"groups": groups})

    @property
    def model(self) -> RegisteredModel:
        return self.registry.models.get(PROJECT)

    @property
    def rollouts(self) -> list[Rollout]:
        return rollouts_of(self.model)

    @property
    def newest(self) -> Rollout:
        return self.rollouts[-1]

    def time(self) -> datetime:
        return hour(self.now)

    def promote(self, name: str, when: float) -> None:
        """Another version becomes champion of all."""
        verdict = judged(self.registry, trained(self.registry, name), when=hour(when))
        promote(self.registry, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(when))

    def running(self) -> Running:
        if not self.assignment:
            return {}
        version = next(
            each for each, bundle in BUNDLES.items() if bundle == self.assignment["base"]["bundle"]
        )
        return {GROUP: (self.assignment, {"model": {"version": version}})}

    def publish(self) -> None:
        """The group is assigned what it should run and try."""
        version = production(self.model, GROUP).version
        assert version is not None
        rollout = wanted_rollout(self.model, self.rollouts, GROUP)
        candidate = None
        if rollout is not None:
            candidate = {"bundle": BUNDLES[rollout.version], "rollout": rollout.id}
        self.assignment = {
            "base": {"bundle": BUNDLES[version]},
            "candidate": candidate,
            "report_every": 60,
        }

    def report(self) -> None:
        """All that are not silent were heard of just now, and what they told is folded."""
        moment = self.time()
        rows = []
        for name in self.names:
            if name in self.silent:
                continue
            told = self.told.setdefault(name, Told())
            told.before_last, told.last_report = told.last_report, moment.timestamp()
            rows.append(
                {
                    **dict.fromkeys(COLUMNS),
                    "device": name,
                    "device_group": GROUP,
                    "sequence": 1,
                    "at": moment,
                    "received": moment,
                    "phase": "IDLE",
                    "frames": 1,
                    "report_every": 60.0,
                }
            )
        table = pa.Table.from_pylist(rows, schema=pa.schema(list(COLUMNS.items())))
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        self.store.write(f"fleet/{PROJECT}/devices.parquet", buffer.getvalue())
        for each in self.rollouts:
            if not each.ended:
                store_told(self.project, self.store, each, self.told, "commit")

    def in_wave(self) -> list[str]:
        return [name for name in self.names if bucket_of(self.newest.id, name) < self.newest.ppm]

    def try_it(self, *failing: str, why: str = "crash") -> None:
        """The devices of the wave try the candidate and keep it, but for those that fail."""
        bundle = BUNDLES[self.newest.version]
        for name in self.in_wave():
            told = self.told.setdefault(name, Told())
            at = self.time().timestamp()
            if bundle not in told.began:
                told.began[bundle] = (at, told.last_report or None)
            ended = ("rolled_back", why, "") if name in failing else ("committed", "", "")
            told.ended.setdefault(bundle, ended)

    def later(self, hours: float = 1.1) -> None:
        self.now += hours

    def go(self) -> list[str]:
        """One pass, and what it leads to is published."""
        said = conduct(self.project, self.registry, self.store, self.running(), self.time())
        self.publish()
        return said

    def copied(self, folder: Path) -> "RolloutWorld":
        """The same elsewhere."""
        shutil.copytree(self.root, folder)
        made = copy.copy(self)
        made.root, made.registry = folder, copy.deepcopy(self.registry)
        made.told, made.assignment = copy.deepcopy(self.told), copy.deepcopy(self.assignment)
        made.store = made._opened()
        return made

    def _opened(self) -> CountedStore:
        store = CountedStore(root=str(self.root))
        store.__dict__["_registry"] = self.registry
        return store

    def killed(self, at: int, after: bool) -> bool:
        """One pass that is killed around its n-th write; False where it had none such."""
        self.registry.writes, self.registry.kill_at, self.registry.kill_after_effect = 0, at, after
        try:
            self.go()
        except Killed:
            return True
        finally:
            self.registry.kill_at, self.registry.locked = None, False
        return False

    def stands(self) -> dict[str, Any]:
        """Where everything is, whoever was killed on the way."""
        now = production(self.model, GROUP)
        rollouts = [(each.version, each.base, each.wave, each.held, each.ended) for each in self.rollouts]
        return {
            "rollouts": rollouts,
            "runs": now.version,
            "how": now.since.kind if now.since is not None else None,
            "named": now.since is not None and now.since.verdict in {each.id for each in self.rollouts},
            "on hold": now.on_hold,
            "unclear": (now.incomplete, now.foreign),
            "intervals": [each.version for each in now.intervals],
            "candidate": (self.assignment.get("candidate") or {}).get("bundle"),
        }
