"""What `/metrics` says of a home, and that a service that is away takes nothing else with it."""

import json
import re
import threading
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import httpx
import pandas as pd
import pytest
from dagster._core.test_utils import create_run_for_test
from production_world import ProductionWorld
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from resources.model_registry import ModelRegistry
from tests.world import shapes_project
from visionops.exporter import families
from visionops.exporter.app import metrics_app
from visionops.exporter.collector import Exporter
from visionops.exporter.days import drift_samples, midnight, performance_samples
from visionops.exporter.families import FAMILIES, Sample, to_metrics
from visionops.exporter.readings import Reading
from visionops.serving.server import CannotListen, PredictionServer, in_thread
from visionops_assets import run_tags
from visionops_assets.monitoring.model_days import DRIFT_COLUMNS, PERFORMANCE_COLUMNS

JUNE = date(2026, 6, 1)
MODEL = "ab" * 32


def told(samples: Mapping[str, Reading] | list[Sample], **options: float) -> dict[str, float]:
    """What Prometheus parses, as `name{label="value",…}`."""
    readings = samples if isinstance(samples, Mapping) else {"one": lambda: samples}
    registry = CollectorRegistry(auto_describe=False)
    exporter = Exporter(readings, **options)
    registry.register(exporter)
    try:
        return parsed(generate_latest(registry).decode())
    finally:
        exporter.close()


def parsed(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}"
            assert key not in found, "Prometheus refuses a page that says a thing twice"
            found[key] = sample.value
    return found


def test_names_are_prometheus_s():
    for family in FAMILIES:
        assert re.fullmatch(r"visionops_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.help and not family.help.endswith("."), family.name
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_one_sample_of_one_set_of_labels_and_the_last_counts():
    found = told([families.RUNS(1, "p", "error"), families.RUNS(3, "p", "error")])
    assert found['visionops_runs_total{outcome="error",project="p"}'] == 3
    with pytest.raises(ValueError, match="visionops_runs_total has the labels project, outcome"):
        families.RUNS(1, "p")
    assert [metric.name for metric in to_metrics([families.UP(1, "dagster")])] == ["visionops_up"]


def test_a_service_that_fails_or_hangs_is_down_and_the_others_are_told():
    hanging = threading.Event()

    def broken() -> list[Sample]:
        raise ConnectionError("nobody answers")

    def slow() -> list[Sample]:
        hanging.wait(60)
        return [families.WAITING(2, "late")]

    readings = {"lakefs": broken, "mlflow": slow, "spool": lambda: [families.SPOOLED(4, "shapes")]}
    exporter = Exporter(readings, keep=0, within=0.05, first_within=0.05)

    def page() -> dict[str, float]:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(exporter)
        return parsed(generate_latest(registry).decode())

    for _ in range(3):
        found = page()
        assert {name: found[f'visionops_up{{service="{name}"}}'] for name in readings} == {
            "lakefs": 0,
            "mlflow": 0,
            "spool": 1,
        }
        assert found['visionops_spool_files{project="shapes"}'] == 4
    hanging.set()
    exporter._running["mlflow"].result()
    found = page()
    assert found['visionops_up{service="mlflow"}'] == 1
    assert found['visionops_verdicts_waiting{project="late"}'] == 2
    exporter.close()


def test_what_was_read_is_kept_a_little():
    now, asked = [0.0], []

    def count() -> list[Sample]:
        asked.append(1)
        return []

    exporter = Exporter({"one": count}, keep=10, clock=lambda: now[0])
    for at, reads in ((0, 1), (9.9, 1), (10, 2), (11, 2)):
        now[0] = at
        list(exporter.collect())
        assert len(asked) == reads
    exporter.close()


def drift_table(**models: tuple[bool, int]) -> pd.DataFrame:
    """Each group with one column that drifts or not, one that does not, and one that cannot be judged."""
    rows = []
    for group, (drifts, count) in models.items():
        for column, distance in (("brightness", 0.4 if drifts else 0.01), ("contrast", 0.0), ("score", None)):
            row = dict.fromkeys(DRIFT_COLUMNS)
            row |= {"model_sha256": MODEL, "device_group": group, "rows": count, "column": column}
            row |= {"distance": distance, "threshold": 0.1, "drifted": column == "brightness" and drifts}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(DRIFT_COLUMNS)).astype({"distance": "float64"})


def test_drift_is_that_of_the_newest_day_and_its_alarm_that_of_all():
    project = shapes_project()
    tables = {
        JUNE + timedelta(number): drift_table(all=(number > 1, 200), line_2=(False, 70))
        for number in range(4)
    }
    found = told(list(drift_samples(project, tables)))
    bad, good = (f'{{group="{group}",model="abababababab",project="shapes"' for group in ("all", "line_2"))
    assert found[f"visionops_drifted_columns_ratio{bad}}}"] == 0.5
    assert found[f"visionops_drifted_columns_ratio{good}}}"] == 0
    assert found[f"visionops_production_day_rows{good}}}"] == 70
    assert found[f"visionops_drift_day_timestamp_seconds{bad}}}"] == midnight(date(2026, 6, 4))
    assert found[f'visionops_alarm_standing{bad},signal="drift"}}'] == 1
    assert found[f'visionops_alarm_standing{good},signal="drift"}}'] == 0
    assert found[f'visionops_alarm_since_timestamp_seconds{bad},signal="drift"}}'] == midnight(
        date(2026, 6, 4)
    )


def test_a_model_that_ran_long_ago_is_no_longer_told_of():
    tables = {JUNE: drift_table(old=(True, 200)), JUNE + timedelta(30): drift_table(all=(False, 200))}
    found = told(list(drift_samples(shapes_project(), tables)))
    assert not [name for name in found if 'group="old"' in name]
    assert [name for name in found if 'group="all"' in name]


def test_performance_has_its_interval_and_what_is_not_known_is_left_out():
    row = dict.fromkeys(PERFORMANCE_COLUMNS)
    row |= {"model_sha256": MODEL, "device_group": "all", "rows": 200, "labelled": 0, "metric": "accuracy"}
    row |= {"estimated": 0.9, "estimated_lower": 0.8, "estimated_upper": 0.95, "floor": 0.99, "below": True}
    tables = {JUNE + timedelta(number): pd.DataFrame([row]) for number in range(2)}
    found = told(list(performance_samples(shapes_project(), tables)))
    labels = 'group="all",kind="estimated",model="abababababab",project="shapes"'
    for name, value in (("", 0.9), ("_lower", 0.8), ("_upper", 0.95)):
        assert found[f"visionops_performance{name}_ratio{{{labels}}}"] == value
    assert not [name for name in found if "realised" in name]
    assert [value for name, value in found.items() if "alarm_standing" in name] == [1]


def test_a_home_with_a_champion_over_http(production: ProductionWorld):
    from visionops.exporter import data, days, models, work
    from visionops_assets.promotion.status import status

    world, project = production, production.project
    name = project.project
    world.put_in_production(world.register(seed=1))
    world.publish("week-01", 3, seed=1)
    world.spool.put(name, "camera-1", b"rows")
    cursor = json.dumps({"commit": world.lakefs.head(project.repository).id, "newest": None})
    world.instance.daemon_cursor_storage.set_cursor_values({f"visionops/tick/{name}_commits": cursor})
    tables = days.DayTables(world.artifacts)

    def everything() -> list[Sample]:
        seen = status(world.registry, name, alpha=project.gate.alpha)
        return [
            *models.project_samples(seen),
            *models.group_samples(seen),
            *data.commit_samples(project, world.lakefs),
            *data.spool_samples(project, world.spool),
            *work.run_samples(world.instance, [name]),
            *work.sensor_samples(world.instance, [name]),
            *work.daemon_samples(world.instance),
            *work.unseen_samples(world.instance, world.lakefs, world.projects),
            *days.days_samples(project, tables),
        ]

    gone = ModelRegistry(tracking_uri="sqlite:////proc/nowhere/mlflow.db")
    readings = {
        "all": everything,
        "mlflow": lambda: list(models.project_samples(status(gone, name, alpha=0.05))),
    }
    with in_thread(metrics_app(Exporter(readings, keep=0))) as server:
        answer = httpx.get(f"{server.address}/metrics", timeout=60)
        assert answer.headers["content-type"].startswith("text/plain; version=")
        before = parsed(answer.text)
        world.publish("week-02", 3, seed=2)
        run = create_run_for_test(world.instance, tags={run_tags.PROJECT: name})
        world.instance.report_run_failed(run, message="killed")
        after = parsed(httpx.get(f"{server.address}/metrics", timeout=60).text)
        assert httpx.get(f"{server.address}/health").json() == {"visionops": "metrics"}
        taken = int(server.address.rpartition(":")[2])
        with pytest.raises(CannotListen, match="choose another --port"):
            PredictionServer(metrics_app(Exporter({})), "127.0.0.1", taken)
    assert before['visionops_up{service="all"}'] == 1
    assert before['visionops_up{service="mlflow"}'] == 0
    assert before[f'visionops_champion_version{{group="all",project="{name}"}}'] == 1
    since = before[f'visionops_champion_since_timestamp_seconds{{group="all",project="{name}"}}']
    assert 0 < datetime.now(UTC).timestamp() - since < 3600
    assert before[f'visionops_changes_total{{group="all",kind="promotion",project="{name}"}}'] == 1
    assert before[f'visionops_verdicts_total{{outcome="fail",project="{name}"}}'] == 0
    assert before[f'visionops_spool_files{{project="{name}"}}'] == 1
    assert not [key for key in before if key.startswith("visionops_production_last_commit")]
    for key, was, now in (("commits_unseen{", 0, 1), ('runs_total{outcome="error",', 0, 1)):
        key = f'visionops_{key}project="{name}"}}'
        assert (before[key], after[key] >= now) == (was, True), key
    commit = f'visionops_data_last_commit_timestamp_seconds{{project="{name}"}}'
    assert after[commit] >= before[commit] > 0
