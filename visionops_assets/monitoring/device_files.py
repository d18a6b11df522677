"""Files that devices leave in the spool: each counts once, and only as its own device signed it.

Whatever else lies there is a finding, in one line with the fix: of devices nobody enrolled, signed by another key,
altered, of another project, device or number than its place says, or of a day to come. Kept aside as it came, too, of
strangers no more than `STRANGERS_BYTES` a day.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from edge.reports import SUFFIX, sequence_of
from visionops_assets.common.findings import Finding, findings_table
from visionops_assets.config.project import Project
from visionops_assets.monitoring.device_reports import SignedFile, UnusableReport, report_schema
from visionops_assets.monitoring.sequences import Window
from visionops_assets.monitoring.spool_files import spool_reader

REPORTS_ARE_SIGNED = "reports_are_signed"
STRANGERS_BYTES = 64 << 20


@dataclass(frozen=True)
class DeviceKey:
    """What is known of an enrolled device: its public key (PEM) by its id, and why it counts no more, if so."""

    key_id: str
    public_key: str
    revoked: str = ""


def is_report(file: str) -> bool:
    """Whether a file of the spool is a device's, signed or pretending to be."""
    return file.endswith(SUFFIX)


@dataclass
class DeviceFiles:
    """The devices' files of one collection. `before` is the record of those before, `now` is UTC."""

    project: Project
    devices: Mapping[str, DeviceKey]
    before: Mapping[str, Any]
    now: datetime
    quarantine: list[bytes] = field(default_factory=list)
    repeated: int = 0

    def __post_init__(self) -> None:
        known = self.before.get("devices", {})
        self._windows = {
            device: Window(known[device]["taken"])
            for device, key in self.devices.items()
            if device in known and known[device]["key"] == key.key_id
        }
        today = self.before.get("day") == f"{self.now:%Y-%m-%d}"
        self._strangers_bytes = int(self.before.get("strangers_bytes", 0)) if today else 0
        self._strangers: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._lines: list[dict[str, Any]] = []
        self.reports = 0

    def order(self, files: Sequence[str]) -> list[str]:
        """Those first that nobody can keep from being taken by leaving many others."""
        return sorted(files, key=lambda file: (is_report(file) and self._stranger(_device(file)), file))

    def take(self, file: str, content: bytes) -> pa.Table | None:
        """Take one file in: the rows of the log that it has."""
        device = _device(file)
        if self._stranger(device):
            self._strangers[device] += 1
            if self._strangers_bytes + len(content) <= STRANGERS_BYTES:
                self._strangers_bytes += len(content)
                self.quarantine.append(content)
            return None
        try:
            found = spool_reader().read_signed(content, self.project.task, self.devices[device].public_key)
            self._check_place(device, file, found)
        except UnusableReport as error:
            self.quarantine.append(content)
            self._find(file, str(error), "nothing of it counts; it is kept as it came in quarantine/")
            return None
        if not self._windows.setdefault(device, Window()).take(int(found.head["sequence"])):
            self.repeated += 1
            return None
        if found.foreign:
            fault = f"has {found.foreign:,} rows that name another device"
            self._find(file, fault, f"left out: {device} speaks for itself alone; what runs there?")
        self.reports += 1
        at = datetime.fromisoformat(found.head["at"])
        self._lines += [
            {
                "device": device,
                "device_group": found.head["group"],
                "sequence": found.head["sequence"],
                "at": at,
                "received": self.now,
                **line,
            }
            for line in found.lines
        ]
        return found.log

    def unsigned(self, rows: pa.Table) -> tuple[pa.Table, pa.Table | None]:
        """Rows of files that nobody signed: those that may count, and those that name an enrolled device, if any."""
        names = pa.array(list(self.devices), pa.string())
        foreign = pc.is_in(rows["device"], value_set=names)
        if not self.devices or not pc.any(foreign).as_py():
            return rows, None
        counts = Counter(rows.filter(foreign)["device"].to_pylist())
        for device, count in sorted(counts.items()):
            fault = f"{count:,} rows name it that it did not sign"
            self._find(
                device,
                fault,
                "left out: an enrolled device counts by its own files; name the writer otherwise",
            )
        return rows.filter(pc.invert(pc.fill_null(foreign, False))), rows.filter(foreign)

    def table(self) -> pa.Table | None:
        """The reports, as they are committed; None where there is none."""
        return pa.Table.from_pylist(self._lines, schema=report_schema()) if self._lines else None

    def findings(self) -> pd.DataFrame:
        """What did not count, and why."""
        return findings_table([*self._findings, *self._of_strangers()])

    def record(self) -> dict[str, Any]:
        """What the next collection is to know."""
        windows = {
            device: {"key": self.devices[device].key_id, "taken": window.ranges}
            for device, window in sorted(self._windows.items())
        }
        return {"devices": windows, "strangers_bytes": self._strangers_bytes}

    def _of_strangers(self) -> list[Finding]:
        project, found = self.project.project, []
        for device, count in sorted(self._strangers.items()):
            key = self.devices.get(device)
            what = f"is revoked ({key.revoked})" if key is not None else "is not enrolled"
            fix = (
                f"`visionops fleet provision {project} --group GROUP --device {device} --to FOLDER` enrols a device; "
                "else see who writes to the spool"
            )
            if key is not None:
                fix = (
                    f"`visionops fleet provision {project} --group GROUP --device {device} --to FOLDER --replace` "
                    "gives it a new key"
                )
            found.append(_finding(device, f"{what}, and left {count:,} reports: none counts", fix))
        return found

    def _check_place(self, device: str, file: str, found: SignedFile) -> None:
        """Raise `UnusableReport` for what its device signed, but not for this place or time."""
        head, name = found.head, file.partition("/")[2]
        said = (head["project"], head["device"])
        if said != (self.project.delivered_as, device):
            raise UnusableReport(f"says that it is of {said[1]} of {said[0]}; each writes to its own folder")
        try:
            number = sequence_of(name)
        except ValueError as error:
            raise UnusableReport(str(error)) from error
        if number != head["sequence"]:
            raise UnusableReport(f"says that it is number {head['sequence']}: it was renamed")
        at = datetime.fromisoformat(head["at"])
        if at > self.now + self.project.production.clock_ahead:
            raise UnusableReport(
                f"is of {at:%Y-%m-%d %H:%M} UTC, ahead of our clock; set the clock of {device}"
            )

    def _stranger(self, device: str) -> bool:
        key = self.devices.get(device)
        return key is None or bool(key.revoked)

    def _find(self, what: str, fault: str, why: str) -> None:
        self._findings.append(_finding(what, fault, why))


def _finding(what: str, fault: str, why: str) -> Finding:
    return Finding(REPORTS_ARE_SIGNED, what, fault, why, "WARN")


def _device(file: str) -> str:
    return file.partition("/")[0]
