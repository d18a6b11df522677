"""What the devices of a project are now, and each group in numbers: who is silent, what answers, what is wrong."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import pandas as pd

from resources.storage import ArtifactStore
from visionops_assets.config.project import Project
from visionops_assets.delivery.enrolment import Enrolled, devices
from visionops_assets.delivery.reported_devices import read_devices
from visionops_assets.delivery.repository import Running

# `never` reported; `silent` for several reports; `trying` another model; `refused` what its group is assigned; `behind`
# that, for it did not look since; `current`.
State = Literal["never", "silent", "trying", "refused", "behind", "current"]
STATES: tuple[State, ...] = get_args(State)
# Of its own reports a device may miss so many before it is called silent.
MISSED = 3
_LONGEST_INTERVAL = 86_400.0
# A clock that is so far behind was never set.
_NEVER_SET = timedelta(days=30)


@dataclass(frozen=True)
class DeviceNow:
    """One enrolled device. `version` and `release` are what answers there, as far as it told."""

    device: str
    group: str
    state: State
    version: int | None = None
    release: int | None = None
    variant: str | None = None
    problem: str | None = None
    last_report: datetime | None = None
    frames: int = 0


@dataclass(frozen=True)
class GroupNow:
    """The devices of a group in numbers. `versions` counts devices by (version, variant) that answers there, `problems`
    by who found them."""

    group: str
    devices: int
    states: Mapping[State, int]
    versions: Mapping[tuple[int, str], int]
    problems: Mapping[str, int]
    silent: tuple[str, ...] = ()
    last_report: datetime | None = None
    wrong: Mapping[str, str] = field(default_factory=dict)

    def runs(self) -> str:
        """What answers, in words."""
        several = len({version for version, _ in self.versions}) < len(self.versions)
        told = [
            f"version {version}{f' ({variant})' if several else ''} on {count}"
            for (version, variant), count in sorted(self.versions.items(), reverse=True)
        ]
        untold = self.devices - sum(self.versions.values())
        return ", ".join([*told, *([f"nothing known of {untold}"] if untold else [])])


def enrolled_now(project: Project, store: ArtifactStore, running: Running, now: datetime) -> list[DeviceNow]:
    """The devices of a project as their collected reports say they are; `running` is that of its repository."""
    assigned = {group: str(assignment["base"]["bundle"]) for group, (assignment, _) in running.items()}
    reported, _ = read_devices(store, project.delivered_as)
    enrolled = devices(store, project.delivered_as)
    return devices_now(enrolled, reported, assigned, now, project.production.collect_every)


def devices_now(
    enrolled: Sequence[Enrolled],
    reported: pd.DataFrame,
    assigned: Mapping[str, str],
    now: datetime,
    collected: timedelta,
) -> list[DeviceNow]:
    """The devices that are not revoked, by name. `reported` has the columns of `COLUMNS`, `assigned` the bundle of each
    group; reports are `collected` so often."""
    rows: dict[str, dict[Any, Any]] = {str(row["device"]): row for row in reported.to_dict("records")}
    found = []
    for each in enrolled:
        if each.revoked:
            continue
        row = rows.get(each.device)
        if row is None or row.get("at") is None:
            found.append(DeviceNow(each.device, each.group, "never"))
            continue
        last = _last_report(row)
        every = min(max(float(row["report_every"] or 300), 1.0), _LONGEST_INTERVAL)
        silent = now - last > MISSED * timedelta(seconds=every) + collected
        found.append(
            DeviceNow(
                each.device,
                each.group,
                "silent" if silent else _state(row, assigned.get(each.group)),
                _whole(row["version"]),
                _whole(row["release"]),
                row["variant"],
                row["problem"],
                last,
                int(row["frames"] or 0),
            )
        )
    return found


def groups_now(devices: Iterable[DeviceNow]) -> dict[str, GroupNow]:
    """Each group that has a device, by name."""
    by_group: dict[str, list[DeviceNow]] = {}
    for each in devices:
        by_group.setdefault(each.group, []).append(each)
    return {group: _group_now(group, by_group[group]) for group in sorted(by_group)}


def _group_now(group: str, devices: Sequence[DeviceNow]) -> GroupNow:
    counted = Counter(each.state for each in devices)
    versions = Counter((each.version, each.variant or "") for each in devices if each.version is not None)
    wrong = {each.device: each.problem for each in devices if each.problem}
    kinds = Counter(part.partition(":")[0] for said in wrong.values() for part in said.split("; "))
    reports = [each.last_report for each in devices if each.last_report is not None]
    return GroupNow(
        group,
        len(devices),
        {state: counted[state] for state in STATES},
        {(version, variant): count for (version, variant), count in versions.items() if version is not None},
        dict(kinds),
        tuple(each.device for each in devices if each.state == "silent"),
        max(reports, default=None),
        wrong,
    )


def _state(row: Mapping[Any, Any], assigned: str | None) -> State:
    if row["candidate_version"] is not None or row["phase"] not in ("IDLE", "EMPTY"):
        return "trying"
    if assigned is None or row["bundle"] == assigned:
        return "current"
    return "refused" if assigned in json.loads(row["refused"] or "{}") else "behind"


def _last_report(row: Mapping[Any, Any]) -> datetime:
    """When a device reported last; by our clock where its own is ahead, or was never set."""
    at, received = (pd.Timestamp(row[name]).to_pydatetime() for name in ("at", "received"))
    found: datetime = at if received - _NEVER_SET <= at <= received else received
    return found


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
