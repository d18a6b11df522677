"""From the spool to a commit: what writers left is sorted by day, compacted, and committed as one.

A file is taken away from the spool only after the commit that has it. A collector that is killed leaves either
nothing but staged objects, which the next one drops, or files that the last commit names, which the next one takes
away.

In the repository of production, for a project `<p>` and a collection `<id>`:
```
project=<p>/dt=<day>/<id>.parquet      rows of the day, with the columns of the log
captures/dt=<day>/<sha256>.<format>    frames, by the digest of their bytes
labels/dt=<day>/<p>.<id>.parquet       late labels, by the day of the prediction
findings/dt=<day>/<p>.<id>.parquet     what could not be used, by the day of the collection
quarantine/dt=<day>/<p>.<id>.<n>.parquet   those files, or rows, as they came
reports/, report_findings/             what devices reported of themselves (`device_reports`)
project=<p>/collected.json             the names of the files that the last collection took, how many bytes of frames
                                       each device has had kept on each day that may still be written for, and which
                                       of its reports were taken
```
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from edge.images.decode_pool import probe
from edge.images.header import UnreadableImage
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.storage import Spool
from visionops_assets.common.findings import Finding, findings_table, join_findings
from visionops_assets.common.run_tags import LOG_IS_COMPLETE
from visionops_assets.common.tables import arrow_parquet, to_parquet
from visionops_assets.config.project import Project
from visionops_assets.monitoring.device_files import DeviceFiles, DeviceKey, is_report
from visionops_assets.monitoring.device_reports import REPORT_FINDINGS, REPORTS
from visionops_assets.monitoring.inference_log import (
    CAPTURES,
    LOGGED,
    QUARANTINE,
    belongs_to,
    capture_path,
    day_folder,
    day_of,
    findings_folder,
    labels_folder,
    log_schema,
    production_repository,
    spool_schema,
)
from visionops_assets.monitoring.spool_files import UnusableFile, spool_reader
from visionops_assets.monitoring.validation import clock_findings, misplaced
from visionops_assets.monitoring.waiting_files import WaitingFiles

# More wait for the next commit: memory holds the rows and frames of one.
FILES_A_COMMIT = 1000
# A tick of the sensor has 60 s, and looks at days afterwards.
COLLECT_SECONDS = 40.0


@dataclass(frozen=True)
class Collected:
    """What one collection did; `left` files wait for the next. Without a commit there was nothing to take."""

    commit: str | None = None
    files: int = 0
    rows: int = 0
    captures: int = 0
    labels: int = 0
    reports: int = 0
    repeated: int = 0
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
        more += f", {self.reports:,} reports of devices" if self.reports else ""
        more += f", {self.repeated:,} that were taken before" if self.repeated else ""
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
        devices: DeviceFiles | None = None,
    ) -> None:
        self._project, self._now = project, now
        self._devices = devices or DeviceFiles(project, {}, {}, now)
        self._today = f"{now:%Y-%m-%d}"
        # Files by the same names may come again within a second.
        digest = hashlib.sha256(json.dumps([now.isoformat(), *files]).encode()).hexdigest()
        self.id = f"{now:%Y%m%dT%H%M%S}-{digest[:12]}"
        # Those that were taken in.
        self.files: list[str] = []
        self._spooled: list[pa.Table] = []
        self._signed: list[pa.Table] = []
        self._rows: dict[str, pa.Table] = {}
        self._labels: dict[str, list[pa.Table]] = {}
        self._captures: dict[str, bytes] = {}
        self._captured = {day: Counter(devices) for day, devices in (captured or {}).items()}
        self._quarantine: list[bytes] = []
        self._findings: list[pd.DataFrame] = []

    def add(self, file: str, content: bytes) -> None:
        """Take one file in, or its findings."""
        self.files.append(file)
        if is_report(file):
            rows = self._devices.take(file, content)
            if rows is not None:
                self._signed.append(rows)
            return
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
            files=len(self.files),
            rows=sum(map(len, self._rows.values())),
            captures=len(self._captures),
            labels=sum(len(table) for tables in self._labels.values() for table in tables),
            reports=self._devices.reports,
            repeated=self._devices.repeated,
            days=tuple(sorted({*self._rows, *self._labels})),
            left=left,
            findings=join_findings([*self._findings, self._devices.findings()]),
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
        yield from self._reports(f"dt={self._today}/{name}.{self.id}")

    def _reports(self, file: str) -> Iterator[tuple[str, bytes]]:
        """What devices told of themselves; what is wrong with that touches no production day."""
        table, found = self._devices.table(), self._devices.findings()
        if table is not None:
            yield f"{REPORTS}{file}.parquet", arrow_parquet(table)
        if len(found):
            yield f"{REPORT_FINDINGS}{file}.parquet", to_parquet(found)
        for number, content in enumerate(self._devices.aside.files):
            yield f"{QUARANTINE}{file}.{number}.jsonl.gz", content

    def _place_rows(self) -> None:
        """All rows at once: a file has few, and there are many files."""
        found = list(self._signed)
        if self._spooled:
            counted, foreign = self._devices.unsigned(pa.concat_tables(self._spooled))
            found.append(counted)
            if foreign is not None:
                self._quarantine.append(arrow_parquet(foreign))
        if not found:
            return
        rows = pa.concat_tables(found)
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


def collect(
    project: Project,
    *,
    lakefs: LakeFSResource,
    spool: Spool,
    lock: AbstractContextManager[None],
    now: datetime,
    most: int = FILES_A_COMMIT,
    devices: Callable[[], Mapping[str, DeviceKey]] = dict,
) -> Collected:
    """Commit what the spool of a project has, at most `most` files; `now` is UTC, `devices` tells those enrolled.

    Who is enrolled is asked once the spool was listed: a device is, before it leaves a file.
    `lock` is held meanwhile: one collector a repository. Raises what lakeFS raises; then nothing is lost, and the next
    collection takes the same files.
    """
    repository, name = production_repository(project.repository), project.project
    with lock:
        files = WaitingFiles.of(project, spool)
        found = sorted(files.places)
        if not found:
            return Collected()
        lakefs.create_repository(repository)
        last = _taken_last(lakefs, repository, name)
        taken = set(last.get("files", ()))
        # The collector before this one was killed after its commit. Not so of reports: by the same name a device brings
        # one again that was cut off, and one that was taken is known by its number.
        taken = {file for file in taken if not is_report(file)}
        files.remove([file for file in found if file in taken])
        waiting = [file for file in found if file not in taken]
        if not waiting:
            return Collected()
        if any(lakefs.uncommitted(repository, MAIN)):
            lakefs.reset(repository, MAIN)
        of_devices = DeviceFiles(project, devices(), last, now)
        chosen = of_devices.order(waiting)[:most]
        batch = Collection(project, chosen, now, last.get("captured"), of_devices)
        for file, content in files.read(chosen, of_devices):
            batch.add(file, content)
        objects = batch.objects()
        # Also where all were taken before the commit has something new: lakeFS takes no other.
        told = {"id": batch.id, "captured": batch.captured(), **of_devices.record()}
        objects.append((last_collection(name), _record_of_collection(batch.files, now, told)))
        lakefs.write_many(repository, MAIN, ((path, partial(bytes, content)) for path, content in objects))
        if last.get("day") != f"{now:%Y-%m-%d}":
            _forget_old_days(lakefs, project, now)
        message = f"{name}: {len(batch.files)} files of the spool"
        commit = lakefs.save(repository, MAIN, message, {"visionops.project": name})
        files.remove(batch.files)
        return batch.collected(commit.id, left=len(waiting) - len(batch.files))


def collect_all(collect_once: Callable[[], Collected], seconds: float = COLLECT_SECONDS) -> list[Collected]:
    """Collect until nothing is left, or so long; a commit that is begun is ended. At least once."""
    until, found = time.monotonic() + seconds, [collect_once()]
    while found[-1].left and time.monotonic() < until:
        found.append(collect_once())
    return found


def _taken_last(lakefs: LakeFSResource, repository: str, project: str) -> dict[str, Any]:
    try:
        found = json.loads(lakefs.read(repository, f"{MAIN}@", last_collection(project)))
    except LakeFSNotFound:
        return {}
    return dict(found)


def _record_of_collection(files: Sequence[str], now: datetime, told: Mapping[str, Any]) -> bytes:
    return json.dumps({"format": 1, "day": f"{now:%Y-%m-%d}", "files": list(files), **told}).encode()


def _forget_old_days(lakefs: LakeFSResource, project: Project, now: datetime) -> None:
    """Stage the deletion of frames, and of what was logged, that are older than the project keeps them."""
    repository, name, rules = production_repository(project.repository), project.project, project.production
    frames = f"{now - timedelta(days=rules.captures.keep_days):%Y-%m-%d}"
    logged = rules.first_kept(now.date()).isoformat()
    reported = f"{now - timedelta(days=rules.reports_keep_days):%Y-%m-%d}"
    ages = (
        (CAPTURES, frames),
        *((folder.format(project=name), logged) for folder in (*LOGGED, QUARANTINE)),
        *((folder, reported) for folder in (REPORTS, REPORT_FINDINGS)),
    )
    old = [
        entry.path
        for folder, oldest in ages
        for entry in lakefs.objects(repository, f"{MAIN}@", folder)
        if (day_of(entry.path) or oldest) < oldest and (folder == CAPTURES or belongs_to(entry.path, name))
    ]
    if old:
        lakefs.delete_many(repository, MAIN, old)
