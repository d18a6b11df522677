"""Many real agents in one process, through their signed reports, fold, evidence and decision: what fails on a quarter
of them is stopped, and all return to their base.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from edge.agent import Agent
from edge.formats import bucket_of
from edge.runner import OpenedHere, RunnerDied
from tests.devices.small_fleet import GROUP, Device, Fleet, update
from visionops_assets.config.rollout_rules import RolloutRules
from visionops_assets.delivery.rollout_looks import Look, Watched, look
from visionops_assets.delivery.rollout_reports import Told, fold
from visionops_assets.monitoring.device_reports import read_signed
from visionops_assets.rollout.rollouts import Entry, Rollout, folded
from visionops_assets.rollout.waves import ALL_PPM, ppm_of, wave_sizes

ROLLOUT = "20261201T120000-line-1-v2"
RULES = RolloutRules(waves=(0.02, 0.1, 0.5, 1.0), dwell=timedelta(minutes=10))


class DiesWithOne:
    """Runs models, of which the process of one ends with its first image; a model's file is called by its digest."""

    dies_with = ""

    def __init__(self, model: Path, *_: Any) -> None:
        self._opened = OpenedHere(model, 1, None)
        self._bad = model.name == DiesWithOne.dies_with

    def answer(self, image: bytes) -> dict[str, Any]:
        if self._bad:
            raise RunnerDied("crash", "the model's process ended")
        return self._opened.answer(image)

    def measure(self) -> dict[str, Any]:
        return self._opened.measure()

    def close(self) -> None:
        self._opened.close()


def reports(fleet: Fleet, devices: list[Device], received: datetime, taken: set[Path]) -> pd.DataFrame:
    """What came since, as the collector would have committed it."""
    rows = []
    for device in devices:
        public = load_pem_private_key(device._key, None).public_key()
        key = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        for file in sorted((fleet.root / "reports" / "shapes" / device.name).glob("*.jsonl.gz")):
            if file in taken:
                continue
            taken.add(file)
            signed = read_signed(file.read_bytes(), "classification", [key])
            for line in signed.lines:
                rows.append(
                    {
                        "device": signed.head["device"],
                        "device_group": signed.head["group"],
                        "sequence": signed.head["sequence"],
                        "received": pd.Timestamp(received),
                        **line,
                    }
                )
    return pd.DataFrame(rows)


def test_what_fails_on_a_quarter_is_stopped_and_all_return_to_the_base(
    fleet: Fleet, count: Callable[[int, int], int]
) -> None:
    number = count(24, 1000)
    candidate = fleet.bundle(2)
    fleet.repository.add_bundle(candidate.manifest, candidate.blobs)
    base = fleet.assign(base=fleet.repository.assignment(GROUP)["base"])["base"]  # type: ignore[index]
    DiesWithOne.dies_with = candidate.manifest["files"]["model.onnx"]["sha256"]
    devices = [
        fleet.device(f"cam-{each:04d}", open_runner=OpenedHere if each % 4 else DiesWithOne)
        for each in range(number)
    ]
    agents: list[Agent] = [device.start() for device in devices]
    told: dict[str, Told] = {}
    taken: set[Path] = set()
    rollout = begun([each.name for each in devices], fleet.clock())
    for agent in agents:
        update(agent)
    fold(told, reports(fleet, devices, fleet.clock(), taken), rollout)
    found, wave = None, 0
    entries = [first_entry(rollout)]
    while wave < len(rollout.waves):
        ppm = rollout.ppm
        fleet.assign(
            base=base,
            candidate={**candidate.named, "rollout": ROLLOUT},
            trial={"ppm": ppm, "salt": ROLLOUT},
        )
        fleet.clock.pass_(minutes=11)
        for agent in agents:
            update(agent)
        fold(told, reports(fleet, devices, fleet.clock(), taken), rollout)
        found = looked(rollout, devices, candidate.id, base["bundle"], told, found, fleet.clock())
        if found.decision.action != "advance":
            break
        wave += 1
        entries.append(Entry(ROLLOUT, GROUP, "wave", fleet.clock(), "VisionOps", "so", wave=wave))
        (rollout,) = folded(entries)
    assert found is not None and (found.verdict.word, found.decision.action) == ("FAIL", "roll_back")
    exposed = [each.name for each in devices if bucket_of(ROLLOUT, each.name) < rollout.ppm]
    assert len(exposed) < number, "most never had it"
    assert {each.why for each in found.failures} == {"crash"}

    fleet.assign(base=base, candidate=None, revoked=[candidate.id])
    for agent in agents:
        update(agent)
        assert agent.state.good is not None and agent.state.good.id == base["bundle"]
        assert agent.state.phase == "IDLE" and agent.state.candidate is None
        agent.close()


def begun(names: list[str], when: datetime) -> Rollout:
    buckets = [bucket_of(ROLLOUT, name) for name in names]
    waves = tuple(ppm_of(buckets, size) / ALL_PPM for size in wave_sizes(len(names), RULES.waves))
    return Rollout(ROLLOUT, GROUP, 2, 1, waves, when, "ada", wave_began=when, timed_from=when)


def first_entry(rollout: Rollout) -> Entry:
    return Entry(
        ROLLOUT,
        GROUP,
        "start",
        rollout.began,
        rollout.who,
        "so",
        rollout.version,
        rollout.base,
        rollout.waves,
    )


def looked(
    rollout: Rollout,
    devices: list[Device],
    candidate: str,
    base: str,
    told: dict[str, Told],
    before: Look | None,
    now: datetime,
) -> Look:
    names = [each.name for each in devices]
    return look(Watched(rollout, RULES, names, candidate, base, 300.0), told, before, now)
