"""What `/metrics` says of a home, and that a service that is away takes nothing else with it."""

import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
from dagster._core.test_utils import create_run_for_test
from full_home import GROUP, add_device, add_rollout, drift_table, fill, performance_table, point_to
from production_world import ProductionWorld
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from resources import home
from resources.storage import ArtifactStore
from tests.world import shapes_project
from visionops.serving import metric_families, metric_records
from visionops.serving.exporter import Exporter, Reading, metrics_app, readings
from visionops.serving.metric_families import FAMILIES, Sample, to_metrics
from visionops.serving.metric_records import Days, drift_samples, midnight, performance_samples
from visionops.serving.prediction_server import CannotListen, PredictionServer, in_thread
from visionops_assets.common import run_tags
from visionops_assets.common.keys import asset_key
from visionops_assets.common.tables import write_table
from visionops_assets.config.production_rules import DriftRules
from visionops_assets.delivery import signers
from visionops_assets.delivery.repository import Repository
from visionops_assets.monitoring.model_days import DRIFT_COLUMNS
from visionops_assets.monitoring.production_day import typed_table

JUNE = date(2026, 6, 1)


def told(samples: Mapping[str, Reading] | list[Sample]) -> dict[str, float]:
    """What Prometheus parses, as `name{label="value",…}`."""
    given = samples if isinstance(samples, Mapping) else {"one": lambda: samples}
    registry = CollectorRegistry(auto_describe=False)
    exporter = Exporter(given)
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
    found = told([metric_families.RUNS(1, "p", "error"), metric_families.RUNS(3, "p", "error")])
    assert found['visionops_runs_total{outcome="error",project="p"}'] == 3
    with pytest.raises(ValueError, match="visionops_runs_total has the labels project, outcome"):
        metric_families.RUNS(1, "p")
    assert [metric.name for metric in to_metrics([metric_families.UP(1, "dagster")])] == ["visionops_up"]


def test_a_service_that_fails_or_hangs_is_down_and_the_others_are_told():
    hanging = threading.Event()

    def broken() -> list[Sample]:
        raise ConnectionError("nobody answers")

    def slow() -> list[Sample]:
        hanging.wait(60)
        return [metric_families.WAITING(2, "late")]

    services = {"lakefs": broken, "mlflow": slow, "spool": lambda: [metric_families.SPOOLED(4, "shapes")]}
    exporter = Exporter(services, keep=0, within=0.05, first_within=0.05)

    def page() -> dict[str, float]:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(exporter)
        return parsed(generate_latest(registry).decode())

    for _ in range(3):
        found = page()
        assert {name: found[f'visionops_up{{service="{name}"}}'] for name in services} == {
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


def test_a_day_that_was_stored_anew_is_told_anew(tmp_path: Path):
    project, store = shapes_project(), ArtifactStore(root=str(tmp_path))
    days = Days(store)
    ratio = 'visionops_drifted_columns_ratio{group="all",model="abababababab",project="shapes"}'

    def keep(day: date, drifts: bool) -> dict[str, float]:
        listing = write_table(store, typed_table(drift_table(all=(drifts, 200)), DRIFT_COLUMNS))
        store.write_json(asset_key("shapes", "drift_report", day.isoformat()), listing)
        found = days.samples(project)
        assert days.samples(project) == found
        return told(found)

    assert [name for name in told(days.samples(project)) if "floor" not in name and "project=" in name] == []
    assert keep(JUNE, False)[ratio] == 0
    assert keep(JUNE, True)[ratio] == 0.5
    assert keep(JUNE + timedelta(1), False)[ratio] == 0
    stricter = project.model_copy(update={"drift": DriftRules(floor=0.99)})
    assert told(days.samples(stricter))['visionops_performance_floor_ratio{project="shapes"}'] == 0.99


def test_performance_has_its_interval_and_what_is_not_known_is_left_out():
    tables = {JUNE + timedelta(number): performance_table() for number in range(2)}
    found = told(list(performance_samples(shapes_project(), tables)))
    labels = 'group="all",kind="estimated",model="abababababab",project="shapes"'
    for name, value in (("", 0.9), ("_lower", 0.8), ("_upper", 0.95)):
        assert found[f"visionops_performance{name}_ratio{{{labels}}}"] == value
    assert not [name for name in found if "realised" in name]
    assert [value for name, value in found.items() if "alarm_standing" in name] == [1]


def test_a_home_over_http(production: ProductionWorld, monkeypatch: pytest.MonkeyPatch):
    world, name = production, production.project.project
    model = fill(world, monkeypatch)
    signers.make_keys(signers.keys_folder())
    repository = Repository(ArtifactStore(root=home.edge()), name, signers.load_keys())
    repository.create()
    add_device(world, repository.bootstrap())
    add_rollout(world)
    # To know when they end takes none of them.
    (signers.keys_folder() / "root.pem").unlink()
    with in_thread(metrics_app(Exporter(readings(world.instance), keep=0))) as server:
        answer = httpx.get(f"{server.address}/metrics", timeout=60)
        assert answer.headers["content-type"].startswith("text/plain; version=")
        before = parsed(answer.text)
        world.publish("week-02", 3, seed=2)
        run = create_run_for_test(world.instance, tags={run_tags.PROJECT: name})
        world.instance.report_run_failed(run, message="killed")
        (world.root / "projects" / "broken.yaml").write_text("project: broken\n")
        after = parsed(httpx.get(f"{server.address}/metrics", timeout=60).text)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
        without = parsed(httpx.get(f"{server.address}/metrics", timeout=60).text)
        assert httpx.get(f"{server.address}/health").json() == {"visionops": "metrics"}
        taken = int(server.address.rpartition(":")[2])
        with pytest.raises(CannotListen, match="choose another --port"):
            PredictionServer(metrics_app(Exporter({})), "127.0.0.1", taken)
    services = ("projects", "mlflow", "artifacts", "lakefs", "spool", "edge", "dagster")
    up = {service: f'visionops_up{{service="{service}"}}' for service in services}
    assert [before[up[service]] for service in services] == [1, 1, 1, 1, 1, 1, 1]
    assert [after[up[service]] for service in services] == [0, 1, 1, 1, 1, 1, 1]
    assert [without[up[service]] for service in services] == [0, 0, 1, 1, 1, 1, 1]
    told_of = {key.partition("{")[0] for key in before}
    assert told_of == {family.name for family in FAMILIES}
    assert before[f'visionops_champion_version{{group="all",project="{name}"}}'] == 1
    assert not [key for key in without if key.startswith("visionops_champion")]
    ends = f'visionops_edge_metadata_expires_timestamp_seconds{{project="{name}",role="timestamp"}}'
    assert 6.9 < (before[ends] - datetime.now(UTC).timestamp()) / 86400 < 7
    devices = f'group="{GROUP}",project="{name}"'
    assert before[f"visionops_edge_assignment_behind{{{devices}}}"] == 1
    assert before[f'visionops_fleet_devices{{{devices},state="current"}}'] == 1
    assert before[f'visionops_fleet_version_devices{{{devices},variant="fp32",version="1"}}'] == 1
    assert before[f"visionops_fleet_silent_devices{{{devices}}}"] == 0
    assert before[f'visionops_fleet_problem_devices{{group="{GROUP}",problem="log",project="{name}"}}'] == 1
    rollout = f'group="{GROUP}",project="{name}",rollout="a-rollout"'
    assert before[f'visionops_rollout_state{{{rollout},state="in progress"}}'] == 1
    evidence = f'group="{GROUP}",kind="safety",project="{name}",rollout="a-rollout"'
    assert before[f"visionops_rollout_e_value{{{evidence}}}"] == 1
    assert before[f'visionops_rollouts_total{{group="{GROUP}",outcome="FAIL",project="{name}"}}'] == 0
    in_production = f'group="all",model="{model}",project="{name}",signal="drift"'
    assert before[f"visionops_alarm_standing{{{in_production}}}"] == 1
    since = before[f'visionops_champion_since_timestamp_seconds{{group="all",project="{name}"}}']
    assert 0 < datetime.now(UTC).timestamp() - since < 3600
    assert before[f'visionops_changes_total{{group="all",kind="promotion",project="{name}"}}'] == 1
    assert before[f'visionops_verdicts_total{{outcome="fail",project="{name}"}}'] == 0
    assert before[f'visionops_spool_files{{project="{name}"}}'] == 1
    for key, was, now in (("commits_unseen{", 0, 1), ('runs_total{outcome="error",', 0, 1)):
        key = f'visionops_{key}project="{name}"}}'
        assert (before[key], after[key] >= now) == (was, True), key
    commit = f'visionops_data_last_commit_timestamp_seconds{{project="{name}"}}'
    assert after[commit] >= before[commit] > 0


def test_an_empty_home_is_told_of(production: ProductionWorld, monkeypatch: pytest.MonkeyPatch):
    point_to(production.root, monkeypatch)
    found = told(readings(production.instance))
    assert {value for key, value in found.items() if key.startswith("visionops_up")} == {1}
    assert not [key for key in found if "champion" in key]


def test_a_run_that_fails_while_it_is_counted_is_nobody_else_s_error(
    monkeypatch: pytest.MonkeyPatch, count: Callable[[int, int], int]
):
    """Refused or not, whenever it happens: a counter that jumps and comes back would be an alarm."""
    counted, calls, before = metric_records._count, 0, 0
    fail_at, fails = -1, dict[str, dg.DagsterRun]()

    def failing(instance: dg.DagsterInstance, *given: Any, **options: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == fail_at:
            instance.report_run_failed(fails.pop("run"), message="killed")
        return counted(instance, *given, **options)

    def errors(instance: dg.DagsterInstance) -> list[float]:
        nonlocal calls
        calls = 0
        found = told(list(metric_records.run_samples(instance, ["shapes"])))
        return [found[f'visionops_runs_total{{outcome="error",project="{name}"}}'] for name in ("", "shapes")]

    monkeypatch.setattr(metric_records, "_count", failing)
    with dg.DagsterInstance.ephemeral() as instance:
        assert errors(instance) == [0, 0]
        for number in range(1, calls + 1, count(6, 1)):
            for outcome in (None, run_tags.REFUSED):
                tags = {run_tags.PROJECT: "shapes", **({run_tags.OUTCOME: outcome} if outcome else {})}
                fails["run"] = create_run_for_test(instance, tags=tags)
                fail_at, now = number, before + (outcome is None)
                assert errors(instance) in ([0, before], [0, now]), (number, outcome)
                fail_at, before = -1, now
                assert errors(instance) == [0, now]
        assert before > 3
