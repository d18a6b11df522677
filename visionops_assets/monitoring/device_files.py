"""Files that devices leave in the spool: each counts once, and only as its own device signed it.

Whatever else lies there is a finding, in one line with the fix: of devices nobody enrolled, signed by another key,
altered, of another project, device or number than its place says, of a day to come, or of a number that another report
has. It is kept aside as it came, too, in bounds (`set_aside`).
"""

import hashlib
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
from visionops_assets.monitoring.device_reports import (
    SignedFile,
    UnsignedReport,
    UnusableReport,
    report_schema,
)
from visionops_assets.monitoring.sequences import TakenReports
from visionops_assets.monitoring.set_aside import UNCOUNTED_BYTES, SetAside
from visionops_assets.monitoring.spool_files import spool_reader

REPORTS_ARE_SIGNED = "reports_are_signed"
# What nobody's key signed takes time to find out: so much of it at once, and the rest with the next commit.
UNSIGNED_AT_ONCE = 64 << 20
# Of one device in one collection; the others are one line.
MOST_FINDINGS = 20
_TWO = "two devices speak by one key, or its state or clock was put back"


@dataclass(frozen=True)
class DeviceKey:
    """What is known of an enrolled device: its public key (PEM) by its id, why it counts no more, if so, and the keys
    that this one replaced, newest first: each counts for what was written before a newer one spoke."""

    key_id: str
    public_key: str
    revoked: str = ""
    replaced: tuple["DeviceKey", ...] = ()


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
    repeated: int = field(default=0, init=False)
    reports: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._taken = {
            (device, each.key_id): TakenReports(record)
            for device, known in self.devices.items()
            for each in (known, *known.replaced)
            for record in _records(self.before, device)
            if record["key"] == each.key_id
        }
        self.aside = SetAside.of_day(self.before, f"{self.now:%Y-%m-%d}")
        self._keeps_strangers = self.aside.takes_unsigned
        self._unsigned_bytes = 0
        self._strangers: Counter[str] = Counter()
        self._many: Counter[str] = Counter()
        self._old: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._lines: list[dict[str, Any]] = []

    def order(self, files: Sequence[str]) -> list[str]:
        """Those first that nobody can keep from being taken by leaving many others: of each device its first, then its
        second, and strangers last."""
        places: Counter[str] = Counter()

        def place(file: str) -> tuple[bool, int, str]:
            device = _device(file)
            places[device] += is_report(file)
            return is_report(file) and self._stranger(device), places[device], file

        return sorted(sorted(files), key=place)

    def is_read(self, file: str) -> bool:
        """Whether a file's bytes are wanted: not those of strangers once no more of them is kept."""
        return self._keeps_strangers or not self._stranger(_device(file))

    @property
    def are_enough(self) -> bool:
        """Whether so much was read that nobody signed that the rest is to wait for the next commit."""
        return self._unsigned_bytes >= UNSIGNED_AT_ONCE

    def take(self, file: str, content: bytes) -> pa.Table | None:
        """Take one file in: the rows of the log that it has."""
        device = _device(file)
        if self._stranger(device):
            self._strangers[device] += 1
            if content:
                self._keep_unsigned(content)
            return None
        try:
            found = self._read(device, content)
            self._check_place(device, file, found)
        except UnsignedReport as error:
            self._find(file, str(error), f"nothing of it counts; {self._keep_unsigned(content)}")
            return None
        except UnusableReport as error:
            self._find(file, str(error), f"nothing of it counts; {self.aside.keep_uncounted(content)}")
            return None
        if not self._is_new(device, file, content, found):
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
        many = [
            _finding(device, f"and {count - MOST_FINDINGS:,} more of its files", "as those before")
            for device, count in sorted(self._many.items())
            if count > MOST_FINDINGS
        ]
        return findings_table([*self._findings, *many, *self._of_long_ago(), *self._of_strangers()])

    def record(self) -> dict[str, Any]:
        """What the next collection is to know."""
        told: dict[str, Any] = {}
        for device, known in sorted(self.devices.items()):
            found = [
                {"key": each.key_id, **self._taken[device, each.key_id].record()}
                for each in (known, *known.replaced)
                if (device, each.key_id) in self._taken
            ]
            if found:
                told[device] = {**found[0], "replaced": found[1:]}
        return {"devices": told, **self.aside.record()}

    def _read(self, device: str, content: bytes) -> SignedFile:
        known = self.devices[device]
        keys = [each.public_key for each in (known, *known.replaced)]
        return spool_reader().read_signed(content, self.project.task, keys)

    def _is_new(self, device: str, file: str, content: bytes, found: SignedFile) -> bool:
        """Whether a report of its device and place counts; what does not, and is no repetition, is a finding."""
        number, at = int(found.head["sequence"]), datetime.fromisoformat(found.head["at"])
        newer_spoke = self._newer_spoke(device, found.key_id)
        if newer_spoke is not None and at > newer_spoke:
            self._find(
                file,
                f"is signed by a key that was replaced, after the new one spoke at {newer_spoke:%Y-%m-%d %H:%M} UTC",
                f"nothing of it counts; {self.aside.keep_uncounted(content)}",
            )
            return False
        taken = self._taken.setdefault((device, found.key_id), TakenReports())
        overtaken = taken.is_overtaken(number, at)
        what = taken.take(number, hashlib.sha256(content).hexdigest()[:16], at)
        if what == "new":
            if overtaken:
                self._find(
                    file, f"was made after a higher number: {_TWO}", f"it counts; {self._apart(device)}"
                )
            return True
        if what == "repeated":
            self.repeated += 1
        elif what == "another":
            fault = f"is another report than the one of its number that was taken: {_TWO}"
            kept = self.aside.keep_uncounted(content)
            self._find(file, fault, f"nothing of it counts, {kept}; {self._apart(device)}")
        else:
            self._old[device] += 1
            self.aside.keep_uncounted(content)
        return False

    def _newer_spoke(self, device: str, key_id: str) -> datetime | None:
        """When a key that replaced this one signed its first report; None where none did."""
        known = self.devices[device]
        keys = [each.key_id for each in (known, *known.replaced)]
        newer = (self._taken.get((device, each)) for each in keys[: keys.index(key_id)])
        return min(
            (each.first for each in newer if each is not None and each.first is not None), default=None
        )

    def _apart(self, device: str) -> str:
        return (
            f"`visionops fleet provision {self.project.project} --group GROUP --device {device} --to FOLDER --replace` "
            "gives one a key of its own, another name the other"
        )

    def _of_long_ago(self) -> list[Finding]:
        kept = f"kept in quarantine/, at most {UNCOUNTED_BYTES >> 20} MiB a day"
        return [
            _finding(
                device,
                f"left {count:,} reports of numbers that were taken long ago: the same again, or {_TWO}",
                f"none counts, {kept}; {self._apart(device)}",
            )
            for device, count in sorted(self._old.items())
        ]

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

    def _keep_unsigned(self, content: bytes) -> str:
        self._unsigned_bytes += len(content)
        return self.aside.keep_unsigned(content)

    def _stranger(self, device: str) -> bool:
        key = self.devices.get(device)
        return key is None or bool(key.revoked)

    def _find(self, what: str, fault: str, why: str) -> None:
        device = _device(what)
        self._many[device] += 1
        if self._many[device] <= MOST_FINDINGS:
            self._findings.append(_finding(what, fault, why))


def _records(before: Mapping[str, Any], device: str) -> list[Mapping[str, Any]]:
    """What is on record of each key of a device."""
    found = before.get("devices", {}).get(device)
    return [found, *found.get("replaced", ())] if found else []


def _finding(what: str, fault: str, why: str) -> Finding:
    return Finding(REPORTS_ARE_SIGNED, what, fault, why, "WARN")


def _device(file: str) -> str:
    return file.partition("/")[0]
