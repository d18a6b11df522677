"""What one collection of the spool commits: rows and labels by day, frames, and what could not be used, with why.

In the repository of production, for a project `<p>` and a collection `<id>`:
```
project=<p>/dt=<day>/<id>.parquet      rows of the day, with the columns of the log
captures/dt=<day>/<sha256>.<format>    frames, by the digest of their bytes
labels/dt=<day>/<p>.<id>.parquet       late labels, by the day of the prediction
findings/dt=<day>/<p>.<id>.parquet     what could not be used, by the day of the collection
quarantine/dt=<day>/<p>.<id>.<n>.parquet   those files, or rows, as they came
project=<p>/collected.json             the names of the files that the last collection took, and how many bytes of
                                       frames each device has had kept on each day that may still be written for
```
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd
import pyarrow as pa

from edge.images.decode_pool import probe
from edge.images.header import UnreadableImage
from visionops_assets.common.findings import Finding, findings_table, join_findings
from visionops_assets.common.tables import arrow_parquet, to_parquet
from visionops_assets.monitoring.inference_log import (
    LOG_IS_COMPLETE,
    QUARANTINE,
    capture_path,
    day_folder,
    findings_folder,
    labels_folder,
    log_schema,
    spool_schema,
)
from visionops_assets.monitoring.spool_reader import spool_reader
from visionops_assets.monitoring.spooled import UnusableFile
from visionops_assets.monitoring.validation import clock_findings, misplaced
from visionops_assets.project import Project


@dataclass(frozen=True)
class Collected:
    """What one collection did; `left` files wait for the next. Without a commit there was nothing to take."""

    commit: str | None = None
    files: int = 0
    rows: int = 0
    captures: int = 0
    labels: int = 0
    days: tuple[str, ...] = ()
    left: int = 0
    findings: pd.DataFrame = field(default_factory=lambda: findings_table([]))

    def sentence(self) -> str:
        """In words."""
        if self.commit is None:
            return "the spool is empty"
        told = (
            f"{self.files:,} files: {self.rows:,} rows of {len(self.days)} days, {self.captures:,} captures"
        )
        more = f", {self.labels:,} labels" if self.labels else ""
        wrong = f"; {len(self.findings):,} findings" if len(self.findings) else ""
        waiting = f"; {self.left:,} files wait for the next commit" if self.left else ""
        return f"collected {told}{more}{wrong}{waiting}"


class Collection:
    """Takes spooled files in one by one, then gives the objects of one commit. `now` is UTC.

    `captured` says how many bytes of frames are kept already, by day and device: writers hold themselves to the bytes
    of a day, but one device may be several of them.
    """

    def __init__(
        self,
        project: Project,
        files: Sequence[str],
        now: datetime,
        captured: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self._project, self._files, self._now = project, files, now
        self._today = f"{now:%Y-%m-%d}"
        self.id = f"{now:%Y%m%dT%H%M%S}-{hashlib.sha256(json.dumps(list(files)).encode()).hexdigest()[:12]}"
        self._spooled: list[pa.Table] = []
        self._rows: dict[str, pa.Table] = {}
        self._labels: dict[str, list[pa.Table]] = {}
        self._captures: dict[str, bytes] = {}
        self._captured = {day: Counter(devices) for day, devices in (captured or {}).items()}
        self._quarantine: list[bytes] = []
        self._findings: list[pd.DataFrame] = []

    def add(self, file: str, content: bytes) -> None:
        """Take one file in, or its findings."""
        try:
            spooled = spool_reader().read(content, self._project.task)
        except UnusableFile as error:
            self._quarantine.append(content)
            self._find(file, str(error), f"kept as it came under {QUARANTINE}dt={self._today}/")
            return
        if spooled.kind == "labels":
            self._add_labels(file, spooled.rows)
        else:
            self._spooled.append(spooled.rows)

    def objects(self) -> list[tuple[str, bytes]]:
        """Everything to be written, by path. Nothing can be added afterwards."""
        self._place_rows()
        return list(self._objects())

    def captured(self) -> dict[str, dict[str, int]]:
        """The bytes of frames by day and device, this collection's included; of days that are over for good none."""
        oldest = f"{self._now - self._project.production.clock_behind:%Y-%m-%d}"
        return {day: dict(devices) for day, devices in sorted(self._captured.items()) if day >= oldest}

    def collected(self, commit: str, *, left: int) -> Collected:
        """What was gathered, in numbers."""
        return Collected(
            commit=commit,
            files=len(self._files),
            rows=sum(map(len, self._rows.values())),
            captures=len(self._captures),
            labels=sum(len(table) for tables in self._labels.values() for table in tables),
            days=tuple(sorted({*self._rows, *self._labels})),
            left=left,
            findings=join_findings(self._findings),
        )

    def _objects(self) -> Iterator[tuple[str, bytes]]:
        name = self._project.project
        for day, rows in sorted(self._rows.items()):
            yield f"{day_folder(name, day)}{self.id}.parquet", arrow_parquet(rows)
        for day, tables in sorted(self._labels.items()):
            yield f"{labels_folder(name, day)}{self.id}.parquet", arrow_parquet(pa.concat_tables(tables))
        yield from sorted(self._captures.items())
        for number, content in enumerate(self._quarantine):
            yield f"{QUARANTINE}dt={self._today}/{name}.{self.id}.{number}.parquet", content
        if self._findings:
            found = to_parquet(join_findings(self._findings))
            yield f"{findings_folder(name, self._today)}{self.id}.parquet", found

    def _place_rows(self) -> None:
        """All rows at once: a file has few, and there are many files."""
        if not self._spooled:
            return
        rows = pa.concat_tables(self._spooled)
        times = rows["timestamp"].to_pandas()
        faults = misplaced(times, self._now, self._project.production)
        if (faults != "").any():
            self._findings.append(clock_findings(rows["device"].to_pandas(), faults))
            self._quarantine.append(arrow_parquet(rows.filter(pa.array(faults != ""))))
        days = times.where(faults == "").dt.strftime("%Y-%m-%d")
        frame = spool_schema(self._project.task).get_field_index("frame")
        for day in sorted(days.dropna().unique()):
            of_day = rows.filter(pa.array(days == day))
            captures = pa.array(self._keep_frames(str(day), of_day), pa.string())
            placed = of_day.set_column(frame, "capture", captures)
            self._rows[str(day)] = placed.select(log_schema(self._project.task).names)

    def _keep_frames(self, day: str, rows: pa.Table) -> list[str | None]:
        """Paths of the frames, null where a row has none, one that is not its image, or one beyond a day's bytes."""
        paths: list[str | None] = [None] * len(rows)
        spent = self._captured.setdefault(day, Counter())
        columns = (rows[name] for name in ("device", "image_sha256", "frame"))
        for number, (device, digest, frame) in enumerate(zip(*columns, strict=True)):
            if not frame.is_valid:
                continue
            content, name = frame.as_py(), device.as_py() or "no device"
            path, fault = _place(day, digest.as_py(), content)
            if path is None:
                self._find(name, fault, "the row is kept without its frame")
            elif path not in self._captures:
                if spent[name] + len(content) > self._project.production.captures.bytes_per_day:
                    continue
                spent[name] += len(content)
                self._captures[path] = content
            paths[number] = path
        return paths

    def _add_labels(self, file: str, rows: pa.Table) -> None:
        days = rows["day"].to_pandas()
        first, last = self._project.production.since, self._now.date()
        possible = days.map(lambda day: day is not None and first <= day <= last).astype(bool)
        if not possible.all():
            self._quarantine.append(arrow_parquet(rows.filter(pa.array(~possible))))
            what = f"has {int((~possible).sum()):,} labels for days outside {first} to {last}"
            self._find(file, what, "give the day on which the image was predicted")
        for day in sorted(days[possible].unique()):
            self._labels.setdefault(str(day), []).append(rows.filter(pa.array(possible & (days == day))))

    def _find(self, what: str, fault: str, why: str) -> None:
        self._findings.append(findings_table([Finding(LOG_IS_COMPLETE, what, fault, why, "WARN")]))


def last_collection(project: str) -> str:
    """Where the names of the files lie that the last commit took."""
    return f"project={project}/collected.json"


def _place(day: str, digest: str | None, frame: bytes) -> tuple[str | None, str]:
    """Where a frame goes, or what is wrong with it."""
    found = hashlib.sha256(frame).hexdigest()
    if digest is None or found != digest:
        return None, f"has a frame whose SHA-256 is {found[:12]}, the row says {(digest or 'nothing')[:12]}"
    try:
        kind = probe(frame, digest).format
    except UnreadableImage as error:
        return None, f"has a frame that is no image: {error}"
    return capture_path(day, digest, kind.lower()), ""
