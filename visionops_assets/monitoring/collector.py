"""From the spool to a commit: what writers left is sorted by day, compacted, and committed as one.

In the repository of production, for a project `<p>` and a collection `<id>`:
```
project=<p>/dt=<day>/<id>.parquet      rows of the day, with the columns of the log
captures/dt=<day>/<sha256>.<format>    frames, by the digest of their bytes
labels/dt=<day>/<p>.<id>.parquet       late labels, by the day of the prediction
findings/dt=<day>/<p>.<id>.parquet     what could not be used, by the day of the collection
quarantine/dt=<day>/<p>.<id>.<n>.parquet   those files, or rows, as they came
project=<p>/collected.json             the names of the files that the last collection took
```
A file is taken away from the spool only after the commit that has it. A collector that is killed leaves either nothing
but staged objects, which the next one drops, or files that the last commit names, which the next one takes away.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from resources.lakefs import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSNotFound
from resources.spool import Spool
from visionops_assets.dataset.findings import Finding, findings_table, join_findings
from visionops_assets.dataset.image_header import UnreadableImage, probe
from visionops_assets.monitoring.inference_log import (
    LOG_IS_COMPLETE,
    capture_path,
    day_folder,
    day_of,
    findings_folder,
    labels_folder,
    log_schema,
    production_repository,
)
from visionops_assets.monitoring.rules import ProductionRules
from visionops_assets.monitoring.spooled import SpooledFile, UnusableFile, parquet, read_spooled
from visionops_assets.monitoring.validation import clock_findings, misplaced
from visionops_assets.project import Project
from visionops_assets.tables import to_parquet

# More wait for the next commit: memory holds the rows and frames of one.
FILES_A_COMMIT = 1000
CAPTURES = "captures/"


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


def collect(
    project: Project,
    *,
    lakefs: LakeFSResource,
    spool: Spool,
    lock: AbstractContextManager[None],
    now: datetime,
    most: int = FILES_A_COMMIT,
) -> Collected:
    """Commit what the spool of a project has, at most `most` files; `now` is UTC.

    `lock` is held meanwhile: one collector a repository. Raises what lakeFS raises; then nothing is lost, and the next
    collection takes the same files.
    """
    repository, name = production_repository(project.repository), project.project
    with lock:
        found = spool.files(name)
        if not found:
            return Collected()
        lakefs.create_repository(repository)
        last = _last(lakefs, repository, name)
        taken = set(last.get("files", ()))
        # The collector before this one was killed after its commit.
        spool.remove(name, [file for file in found if file in taken])
        waiting = [file for file in found if file not in taken]
        if not waiting:
            return Collected()
        if any(lakefs.uncommitted(repository, MAIN)):
            lakefs.reset(repository, MAIN)
        chosen = waiting[:most]
        batch = _Batch(project, chosen, now)
        for file, content in spool.read_each(name, chosen):
            batch.add(file, content)
        objects = [*batch.objects(), (f"project={name}/collected.json", _record(chosen, now))]
        lakefs.write_many(repository, MAIN, ((path, partial(bytes, content)) for path, content in objects))
        if last.get("day") != f"{now:%Y-%m-%d}":
            _forget_captures(lakefs, repository, project.production, now)
        message = f"{name}: {len(chosen)} files of the spool"
        commit = lakefs.save(repository, MAIN, message, {"visionops.project": name})
        spool.remove(name, chosen)
        return batch.collected(commit.id, left=len(waiting) - len(chosen))


class _Batch:
    """The content of one commit while it is gathered."""

    def __init__(self, project: Project, files: Sequence[str], now: datetime) -> None:
        self._project, self._files, self._now = project, files, now
        self._today = f"{now:%Y-%m-%d}"
        self.id = f"{now:%Y%m%dT%H%M%S}-{hashlib.sha256(json.dumps(list(files)).encode()).hexdigest()[:12]}"
        self._rows: dict[str, list[pa.Table]] = {}
        self._labels: dict[str, list[pa.Table]] = {}
        self._captures: dict[str, bytes] = {}
        self._quarantine: list[bytes] = []
        self._findings: list[pd.DataFrame] = []

    def add(self, file: str, content: bytes) -> None:
        """Take one spooled file in, or its findings."""
        try:
            spooled = read_spooled(content, self._project.task)
        except UnusableFile as error:
            self._quarantine.append(content)
            why = f"kept as it came under quarantine/dt={self._today}/"
            self._findings.append(findings_table([Finding(LOG_IS_COMPLETE, file, str(error), why, "WARN")]))
            return
        if spooled.kind == "labels":
            self._add_labels(file, spooled)
        else:
            self._add_rows(file, spooled)

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Everything to be written, by path."""
        name = self._project.project
        for day, tables in sorted(self._rows.items()):
            yield f"{day_folder(name, day)}{self.id}.parquet", parquet(pa.concat_tables(tables))
        for day, tables in sorted(self._labels.items()):
            yield f"{labels_folder(name, day)}{self.id}.parquet", parquet(pa.concat_tables(tables))
        yield from sorted(self._captures.items())
        for number, content in enumerate(self._quarantine):
            yield f"quarantine/dt={self._today}/{name}.{self.id}.{number}.parquet", content
        if self._findings:
            found = to_parquet(join_findings(self._findings))
            yield f"{findings_folder(name, self._today)}{self.id}.parquet", found

    def collected(self, commit: str, *, left: int) -> Collected:
        """What was gathered, in numbers."""
        return Collected(
            commit=commit,
            files=len(self._files),
            rows=_count(self._rows),
            captures=len(self._captures),
            labels=_count(self._labels),
            days=tuple(sorted({*self._rows, *self._labels})),
            left=left,
            findings=join_findings(self._findings) if self._findings else findings_table([]),
        )

    def _add_rows(self, file: str, spooled: SpooledFile) -> None:
        rows = spooled.rows
        times = rows["timestamp"].to_pandas()
        faults = misplaced(times, self._now, self._project.production)
        if (faults != "").any():
            self._findings.append(clock_findings(rows["device"].to_pandas(), faults))
            self._quarantine.append(parquet(rows.filter(pa.array(faults != ""))))
        days = times.dt.strftime("%Y-%m-%d").where(faults == "")
        for day in sorted(days.dropna().unique()):
            of_day = rows.filter(pa.array(days == day))
            captures = pa.array(self._keep_frames(file, str(day), of_day), pa.string())
            place = of_day.column_names.index("frame")
            logged = of_day.set_column(place, "capture", captures).select(
                log_schema(self._project.task).names
            )
            self._rows.setdefault(str(day), []).append(logged)

    def _keep_frames(self, file: str, day: str, rows: pa.Table) -> list[str | None]:
        """Paths of the frames, null where a row has none or one that is not its image."""
        paths: list[str | None] = []
        for digest, frame in zip(rows["image_sha256"].to_pylist(), rows["frame"].to_pylist(), strict=True):
            path, fault = (None, "") if frame is None else _place(day, digest, frame)
            if path is not None:
                self._captures[path] = frame
            elif fault:
                found = Finding(LOG_IS_COMPLETE, file, fault, "the row is kept without its frame", "WARN")
                self._findings.append(findings_table([found]))
            paths.append(path)
        return paths

    def _add_labels(self, file: str, spooled: SpooledFile) -> None:
        days = spooled.rows["day"].to_pandas()
        first, last = self._project.production.since, self._now.date()
        possible = days.map(lambda day: day is not None and first <= day <= last).astype(bool)
        if not possible.all():
            self._quarantine.append(parquet(spooled.rows.filter(pa.array(~possible))))
            what = f"has {int((~possible).sum()):,} labels for days outside {first} to {last}"
            found = Finding(
                LOG_IS_COMPLETE, file, what, "give the day on which the image was predicted", "WARN"
            )
            self._findings.append(findings_table([found]))
        for day in sorted(days[possible].unique()):
            of_day = spooled.rows.filter(pa.array(possible & (days == day)))
            self._labels.setdefault(str(day), []).append(of_day)


def _place(day: str, digest: str | None, frame: bytes) -> tuple[str | None, str]:
    """Where a frame goes, or what is wrong with it."""
    found = hashlib.sha256(frame).hexdigest()
    if found != digest:
        return None, f"has a frame whose SHA-256 is {found[:12]}, the row says {(digest or 'nothing')[:12]}"
    try:
        kind = probe(frame, digest).format
    except UnreadableImage as error:
        return None, f"has a frame that is no image: {error}"
    return capture_path(day, digest, kind.lower()), ""


def _last(lakefs: LakeFSResource, repository: str, project: str) -> dict[str, Any]:
    try:
        found = json.loads(lakefs.read(repository, f"{MAIN}@", f"project={project}/collected.json"))
    except LakeFSNotFound:
        return {}
    return dict(found)


def _record(files: Sequence[str], now: datetime) -> bytes:
    return json.dumps({"format": 1, "day": f"{now:%Y-%m-%d}", "files": list(files)}, indent=1).encode()


def _forget_captures(lakefs: LakeFSResource, repository: str, rules: ProductionRules, now: datetime) -> None:
    """Stage the deletion of frames that are older than the project keeps them."""
    oldest = f"{now - pd.Timedelta(days=rules.captures.keep_days):%Y-%m-%d}"
    old = [
        entry.path
        for entry in lakefs.objects(repository, f"{MAIN}@", CAPTURES)
        if (day_of(entry.path) or oldest) < oldest
    ]
    if old:
        lakefs.delete_many(repository, MAIN, old)


def _count(tables: dict[str, list[pa.Table]]) -> int:
    return sum(len(table) for parts in tables.values() for table in parts)
