"""What the devices of a group told since a rollout began: a row a device, folded from their reports.

`fleet/<project>/rollouts/<rollout>.parquet` in the artifact store, written whole, with the commit of production up to
which reports are in it: folded again, or killed anywhere, it comes out the same. All times are those of collection, by
our clock: no device's own decides anything.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from edge.blocks import LATENCY_MS
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.common.tables import arrow_parquet
from visionops_assets.config.project import Project
from visionops_assets.delivery.reported_devices import MOST, reports_since, said_in
from visionops_assets.monitoring.inference_log import production_repository
from visionops_assets.rollout.rollouts import Rollout

_CURSOR = b"visionops.cursor"
_BUCKETS = len(LATENCY_MS) + 1
# Events by which a device begins to answer by a bundle, and those that say what it thinks of it.
_BEGINS = frozenset({"trial", "went_back"})
_ENDS = frozenset({"committed", "refused", "rolled_back"})
_LONGEST = 300


@dataclass
class Told:
    """What one device told. Times are seconds since 1970; `before_last` is that of the collection before the one with
    its last report.

    All else is by the identity of a bundle: `began` when it began to answer by it, and when it was heard of last
    before; `ended` by which event first, why, and what was measured; `answers` a histogram of latency; `refused` why it
    takes it no more.
    """

    last_report: float = 0.0
    before_last: float = 0.0
    serves: str = ""
    phase: str = ""
    began: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    ended: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)


def fold(devices: dict[str, Told], reports: pd.DataFrame, rollout: Rollout) -> None:
    """Add rows of `report_schema` that are new, those of the rollout's group, to what is known. What happened before it
    began is of another one."""
    group, began = rollout.group, rollout.began.timestamp()
    own = reports[reports["device_group"] == group].sort_values(["received", "device", "sequence", "number"])
    columns = ["device", "received", "kind", "event", "content"]
    for device, received, kind, event, content in own[columns].itertuples(index=False):
        said = said_in(content)
        if said is None:
            # `reported_devices` has named it.
            continue
        told, at = devices.setdefault(str(device), Told()), received.timestamp()
        if kind == "status":
            _take_status(told, said)
            if at > told.last_report:
                told.before_last, told.last_report = told.last_report, at
        elif at < began:
            continue
        elif kind == "event":
            _take_event(told, str(event), said, at)
        else:
            _take_block(told, said)


def _take_status(told: Told, said: Mapping[str, Any]) -> None:
    serving, refused = said.get("serving"), said.get("quarantine")
    told.serves = str(serving.get("bundle", "")) if isinstance(serving, Mapping) else ""
    told.phase = str(said.get("phase", ""))
    if isinstance(refused, Mapping):
        told.refused = {str(bundle): str(why)[:_LONGEST] for bundle, why in refused.items()}


def _take_event(told: Told, event: str, said: Mapping[str, Any], at: float) -> None:
    bundle = str(said.get("bundle", ""))
    if event in _BEGINS and bundle not in told.began:
        before = told.before_last if told.last_report == at else told.last_report
        told.began[bundle] = (at, before or None)
    elif event in _ENDS and bundle not in told.ended:
        why, detail = (str(said.get(name, ""))[:_LONGEST] for name in ("why", "detail"))
        told.ended[bundle] = (event, why, detail)


def _take_block(told: Told, said: Mapping[str, Any]) -> None:
    counts, bundle = said.get("latency_hist"), str(said.get("serves", ""))
    if not isinstance(counts, list) or len(counts) != _BUCKETS:
        return
    if not all(isinstance(each, int) and 0 <= each <= MOST for each in counts):
        return
    before = told.answers.get(bundle, [0] * _BUCKETS)
    told.answers[bundle] = [min(MOST, one + more) for one, more in zip(before, counts, strict=True)]


def told_of(project: Project, store: ArtifactStore, rollout: Rollout) -> dict[str, Told]:
    """What is folded of a rollout, by device; nothing where nothing is."""
    return _read(store, _key(project, rollout))[0]


def fold_reports(project: Project, lakefs: LakeFSResource, store: ArtifactStore, rollout: Rollout) -> None:
    """Fold what was collected since, and store it where that is more. Raises what lakeFS raises."""
    key = _key(project, rollout)
    devices, cursor = _read(store, key)
    try:
        head = lakefs.head(production_repository(project.repository), MAIN).id
    except LakeFSNotFound:
        return
    if head == cursor:
        return
    # Who was heard of shortly before it began is a match, too.
    day = f"{rollout.began - timedelta(days=1):%Y-%m-%d}"
    try:
        tables = list(reports_since(project, lakefs, cursor, head, day))
    except LakeFSNotFound:
        # Of another repository by this name.
        devices, tables = {}, list(reports_since(project, lakefs, None, head, day))
    if tables:
        fold(devices, pd.concat(tables), rollout)
    store_told(project, store, rollout, devices, head)


def store_told(
    project: Project, store: ArtifactStore, rollout: Rollout, devices: Mapping[str, Told], cursor: str
) -> None:
    """Keep what devices told up to a commit of production."""
    rows = [
        {"device": name, **{each: _stored(value) for each, value in vars(devices[name]).items()}}
        for name in sorted(devices)
    ]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    content = arrow_parquet(table.replace_schema_metadata({_CURSOR: cursor.encode()}))
    store.write(_key(project, rollout), content)


_SCHEMA = pa.schema(
    [
        pa.field("device", pa.string(), nullable=False),
        pa.field("last_report", pa.float64(), nullable=False),
        pa.field("before_last", pa.float64(), nullable=False),
        *(
            pa.field(name, pa.string())
            for name in ("serves", "phase", "began", "ended", "refused", "answers")
        ),
    ]
)


def _stored(value: Any) -> Any:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else value


def _read(store: ArtifactStore, key: str) -> tuple[dict[str, Told], str | None]:
    """The stored rows, and the commit up to which they are folded; nothing where there are none, or none whole."""
    try:
        table = pq.read_table(io.BytesIO(store.read(key)))
    except (ArtifactNotFound, pa.ArrowException, OSError):
        return {}, None
    found = {}
    for row in table.to_pylist():
        mappings = {name: json.loads(row[name]) for name in ("began", "ended", "refused", "answers")}
        for name in ("began", "ended"):
            mappings[name] = {bundle: tuple(each) for bundle, each in mappings[name].items()}
        found[row["device"]] = Told(
            row["last_report"], row["before_last"], row["serves"], row["phase"], **mappings
        )
    cursor = (table.schema.metadata or {}).get(_CURSOR, b"").decode()
    return found, cursor or None


def _key(project: Project, rollout: Rollout) -> str:
    return f"fleet/{project.delivered_as}/rollouts/{rollout.id}.parquet"
