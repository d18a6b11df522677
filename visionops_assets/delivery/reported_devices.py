"""What devices told last: their reports folded into one row a device.

`fleet/<project>/devices.parquet` in the artifact store, written whole, with the commit of production up to which
reports are in it: folded again, or killed anywhere, it comes out the same.
"""

import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.common.tables import arrow_parquet, frame_from_parquet
from visionops_assets.config.project import Project
from visionops_assets.monitoring.device_reports import REPORT_FINDINGS, REPORTS
from visionops_assets.monitoring.inference_log import belongs_to, production_repository

_log = logging.getLogger(__name__)
_CURSOR = b"visionops.cursor"
_FILES_AT_ONCE = 100
# Sums end here: a table of 64-bit numbers, and JSON, hold no more exactly.
MOST = 2**53 - 1
COLUMNS: Mapping[str, pa.DataType] = {
    "device": pa.string(),
    "device_group": pa.string(),
    "sequence": pa.int64(),
    "at": pa.timestamp("us", "UTC"),
    "received": pa.timestamp("us", "UTC"),
    "phase": pa.string(),
    "version": pa.int64(),
    "release": pa.int64(),
    "variant": pa.string(),
    "bundle": pa.string(),
    "candidate_version": pa.int64(),
    "refused": pa.string(),
    "problem": pa.string(),
    "agent": pa.string(),
    "runtime": pa.string(),
    "report_every": pa.float64(),
    "dropped_reports": pa.int64(),
    "event": pa.string(),
    "event_at": pa.timestamp("us", "UTC"),
    "frames": pa.int64(),
    "logged": pa.int64(),
}


def fold(devices: pd.DataFrame, reports: pd.DataFrame) -> pd.DataFrame:
    """One row a device, columns `COLUMNS`: what is known, and rows of `report_schema` that are new.

    The newest report says what a device is, whatever order they came in; frames add up. A row whose content cannot be
    read is left out, and named in the log of this process.
    """
    rows: dict[str, dict[str, Any]] = {
        str(row["device"]): {str(name): value for name, value in row.items()}
        for row in devices.to_dict("records")
    }
    for device, group, at, received, sequence, kind, event, content in reports[
        ["device", "device_group", "at", "received", "sequence", "kind", "event", "content"]
    ].itertuples(index=False):
        row = rows.setdefault(device, {"device": device, "sequence": -1, "frames": 0, "logged": 0})
        said = said_in(content)
        if said is None:
            _log.warning("report %s of %s has a %s that cannot be read: left out", sequence, device, kind)
            continue
        if kind == "block":
            for name in ("frames", "logged"):
                row[name] = min(MOST, int(row[name]) + max(0, _number(said.get(name))))
            continue
        # After its state was lost, or its clock set, a device may count anew.
        newer = (received, sequence) >= (row.get("received", received), row["sequence"])
        if kind == "event" and newer:
            row.update(event=event, event_at=at)
        elif kind == "status" and newer:
            row.update(device_group=group, sequence=sequence, at=at, received=received, **_now(said))
    ordered = [rows[device] for device in sorted(rows)]
    return (
        pd.DataFrame(ordered, columns=list(COLUMNS)).astype(object).where(lambda found: found.notna(), None)
    )


def said_in(content: str) -> Mapping[str, Any] | None:
    """The JSON object of a row, or None: rows outlive the rules by which they were taken."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _now(status: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a report's head says; whatever else it holds is nobody's fault but its device's."""
    serving, candidate = (_table(status.get(name)) for name in ("serving", "candidate"))
    return {
        "phase": _text(status.get("phase")),
        "version": _number(serving.get("version"), None),
        "release": _number(serving.get("release"), None),
        "variant": _text(serving.get("variant")),
        "bundle": _text(serving.get("bundle")),
        "candidate_version": _number(candidate.get("version"), None),
        "refused": json.dumps(_table(status.get("quarantine"))),
        "problem": _text(status.get("problem")),
        "agent": _text(status.get("agent")),
        "runtime": _text(status.get("runtime")),
        "report_every": float(_number(status.get("report_every"), 300) or 300),
        "dropped_reports": _number(status.get("dropped_reports")),
    }


def read_devices(store: ArtifactStore, project: str) -> tuple[pd.DataFrame, str | None]:
    """The stored table, and the commit up to which it is folded; empty where there is none, or none that is whole."""
    try:
        table = pq.read_table(io.BytesIO(store.read(_key(project))))
    except (ArtifactNotFound, pa.ArrowException, OSError):
        return _typed([]).to_pandas(), None
    cursor = (table.schema.metadata or {}).get(_CURSOR, b"").decode()
    found = table.to_pandas().astype(object)
    return found.where(found.notna(), None), cursor or None


def folded(project: Project, lakefs: LakeFSResource, store: ArtifactStore) -> pd.DataFrame:
    """The table with all that was reported, stored where that is more than it was. Raises what lakeFS raises."""
    name, repository = project.project, production_repository(project.repository)
    devices, cursor = read_devices(store, project.delivered_as)
    try:
        head = lakefs.head(repository, MAIN).id
    except LakeFSNotFound:
        return devices
    if head == cursor:
        return devices
    try:
        paths = _new_reports(lakefs, repository, cursor, head)
    except LakeFSNotFound:
        # Of another repository by this name: what that told is told no more.
        devices, paths = _typed([]).to_pandas(), _new_reports(lakefs, repository, None, head)
    for reports in _read(lakefs, repository, head, paths, name):
        devices = fold(devices, reports)
    table = _typed(devices.to_dict("records"))
    store.write(
        _key(project.delivered_as), arrow_parquet(table.replace_schema_metadata({_CURSOR: head.encode()}))
    )
    return devices


def reports_since(
    project: Project, lakefs: LakeFSResource, cursor: str | None, head: str, day: str
) -> Iterator[pd.DataFrame]:
    """Rows of `report_schema` that came between two commits of production, or, without a first one, on this day or
    later. Raises what lakeFS raises."""
    repository = production_repository(project.repository)
    paths = _new_reports(lakefs, repository, cursor, head)
    recent = [path for path in paths if path.removeprefix(REPORTS) >= f"dt={day}"]
    yield from _read(lakefs, repository, head, recent, project.project)


def _read(
    lakefs: LakeFSResource, repository: str, head: str, paths: Iterable[str], project: str
) -> Iterator[pd.DataFrame]:
    own = sorted(path for path in paths if belongs_to(path, project))
    for start in range(0, len(own), _FILES_AT_ONCE):
        contents = lakefs.read_many(repository, head, own[start : start + _FILES_AT_ONCE])
        yield pd.concat([frame_from_parquet(each) for _, each in contents])


def _new_reports(lakefs: LakeFSResource, repository: str, cursor: str | None, head: str) -> list[str]:
    if cursor is None:
        return [entry.path for entry in lakefs.objects(repository, head, REPORTS)]
    changes = list(lakefs.diff(repository, cursor, head, REPORTS))
    # A project that was renamed has its files by another name: these are folded.
    known = {_of_any_project(change.path) for change in changes if change.kind == "removed"}
    added = (change.path for change in changes if change.kind == "added")
    return [path for path in added if _of_any_project(path) not in known]


def _of_any_project(path: str) -> tuple[str, str]:
    """What tells a file of reports from others, whatever its project is called: its folder, and the collection's id."""
    folder, _, name = path.rpartition("/")
    return folder, name.partition(".")[2]


def report_findings(
    project: Project, lakefs: LakeFSResource, days: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """(what, wrong with it and the fix) of the reports of these days that did not count. Raises what lakeFS raises."""
    repository = production_repository(project.repository)
    for day in days:
        prefix = f"{REPORT_FINDINGS}dt={day}/{project.project}."
        try:
            paths = [entry.path for entry in lakefs.objects(repository, MAIN, prefix)]
        except LakeFSNotFound:
            return
        for _, content in lakefs.read_many(repository, MAIN, paths):
            for row in frame_from_parquet(content).itertuples():
                yield str(row.image), f"{row.what}; {row.why}"


def _typed(rows: Sequence[Mapping[Any, Any]]) -> pa.Table:
    schema = pa.schema(list(COLUMNS.items()))
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def _number(value: Any, otherwise: Any = 0) -> Any:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST
    return int(value) if fits else otherwise


def _text(value: Any) -> str | None:
    return value[:1000].encode(errors="backslashreplace").decode() if isinstance(value, str) else None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _key(project: str) -> str:
    return f"fleet/{project}/devices.parquet"
