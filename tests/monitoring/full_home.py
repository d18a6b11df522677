"""A home of which every metric can be told: a champion, judged days, a sensor and a daemon of Dagster."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    SensorType,
)
from dagster._daemon.types import DaemonHeartbeat
from production_world import ProductionWorld

from visionops_assets.common.keys import asset_key
from visionops_assets.common.tables import arrow_parquet, write_table
from visionops_assets.config.rollout_rules import RolloutRules
from visionops_assets.delivery.enrolment import NewDevice, provision
from visionops_assets.delivery.reported_devices import COLUMNS
from visionops_assets.delivery.rollout_looks import Watched, look, store_look
from visionops_assets.monitoring.inference_log import production_repository
from visionops_assets.monitoring.model_days import DRIFT_COLUMNS, PERFORMANCE_COLUMNS
from visionops_assets.monitoring.production_day import typed_table
from visionops_assets.rollout.rollouts import ROLLOUT_ENTRIES, Entry, folded

MODEL = "ab" * 32
GROUP = "line-1"


def drift_table(model: str = MODEL, **groups: tuple[bool, int]) -> pd.DataFrame:
    """Each group with one column that drifts or not, one that does not, and one that cannot be judged."""
    rows = []
    for group, (drifts, count) in groups.items():
        for column, distance in (("brightness", 0.4 if drifts else 0.01), ("contrast", 0.0), ("score", None)):
            drifted = column == "brightness" and drifts
            row = {"model_sha256": model, "device_group": group, "rows": count, "column": column}
            rows.append({**row, "distance": distance, "threshold": 0.1, "drifted": drifted})
    return pd.DataFrame(rows, columns=list(DRIFT_COLUMNS)).astype({"distance": "float64"})


def performance_table(model: str = MODEL) -> pd.DataFrame:
    """A day of a model that is estimated to be below its floor."""
    row = {"model_sha256": model, "device_group": "all", "rows": 200, "labelled": 0, "metric": "accuracy"}
    row |= {"estimated": 0.9, "estimated_lower": 0.8, "estimated_upper": 0.95, "floor": 0.99, "below": True}
    return pd.DataFrame([row], columns=list(PERFORMANCE_COLUMNS))


def fill(world: ProductionWorld, monkeypatch: pytest.MonkeyPatch) -> str:
    """Fill a world, and let the environment point to it; returns the model in production, as labels name it."""
    project, now = world.project, datetime.now(UTC)
    name = project.project
    version = world.register(seed=1)
    world.put_in_production(version)
    world.publish("week-01", 3, seed=1)
    world.spool.put(name, "camera-1", b"rows")
    world.lakefs.create_repository(production_repository(project.repository))
    for back in (1, 0):
        _store_day(world, (now - timedelta(back)).date(), version.weights_sha256)
    world.instance.add_daemon_heartbeat(DaemonHeartbeat(now.timestamp(), "SENSOR", "one"))
    _add_sensor(world, f"{name}_commits", now)
    projects = world.root / "projects"
    projects.mkdir(exist_ok=True)
    declared = project.model_dump(mode="json", exclude_none=True) | {"delivery": {"groups": {GROUP: {}}}}
    (projects / f"{name}.yaml").write_text(yaml.safe_dump(declared))
    point_to(world.root, monkeypatch)
    return version.weights_sha256[:12]


def add_device(world: ProductionWorld, root: bytes) -> None:
    """A device of `GROUP` that reported just now, and that something is wrong."""
    name, now = world.project.project, datetime.now(UTC)
    new = NewDevice(
        name, GROUP, "cam-17", world.root / "cam-17", root, {"repository": "https://models.example"}
    )
    provision(world.artifacts, new, who="ada@example.com", when=now)
    row = {"device": "cam-17", "device_group": GROUP, "at": now, "received": now, "report_every": 300.0}
    row |= {"phase": "IDLE", "version": 1, "variant": "fp32", "problem": "log: it could not be written"}
    table = pa.Table.from_pylist([row], schema=pa.schema(list(COLUMNS.items())))
    world.artifacts.write(f"fleet/{name}/devices.parquet", arrow_parquet(table))


def add_rollout(world: ProductionWorld) -> None:
    """A rollout to `GROUP` in its first wave, looked at once."""
    name, now = world.project.project, datetime.now(UTC)
    entry = Entry("a-rollout", GROUP, "start", now, "ada", "so", version=1, waves=(0.5, 1.0))
    world.registry.models.set_tag(name, f"{ROLLOUT_ENTRIES}000001", entry.to_json())
    (rollout,) = folded([entry])
    watched = Watched(rollout, RolloutRules(), ["cam-17"], "candidate", "base", 300.0)
    store_look(world.project, world.artifacts, look(watched, {}, None, now))


def point_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder the home of this process."""
    for variable in ("LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "VISIONOPS_ARTIFACTS", "VISIONOPS_SPOOL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("VISIONOPS_HOME", str(folder))
    monkeypatch.setenv("VISIONOPS_PROJECTS", str(folder / "projects"))


def _store_day(world: ProductionWorld, day: date, model: str) -> None:
    tables = {
        "inference_log": pd.DataFrame({"device": ["camera-1"]}),
        "drift_report": typed_table(drift_table(model, all=(True, 200)), DRIFT_COLUMNS),
        "performance": typed_table(performance_table(model), PERFORMANCE_COLUMNS),
    }
    for asset, table in tables.items():
        key = asset_key(world.project.project, asset, day.isoformat())
        world.artifacts.write_json(key, write_table(world.artifacts, table))


def _add_sensor(world: ProductionWorld, name: str, now: datetime) -> None:
    location = RegisteredCodeLocationOrigin("definitions.py")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)
    cursor = json.dumps({"commit": world.lakefs.head(world.project.repository).id, "newest": None})
    data = SensorInstigatorData(
        last_tick_timestamp=now.timestamp(), min_interval=30, cursor=cursor, sensor_type=SensorType.STANDARD
    )
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data)
    world.instance.add_instigator_state(state)
