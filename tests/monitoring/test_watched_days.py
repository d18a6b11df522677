"""Production days in Dagster: two models, of which one's camera goes dark, and what the assets make of it."""

import io
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import numpy as np
import pandas as pd
import production as simulated
import pytest
from logged import project
from PIL import Image
from production import blur_and_darkness
from production_world import ProductionWorld

from resources.models.records import TAG_PARTITION, ModelVersion
from tests.world import CLASSES, draw
from visionops_assets.common.keys import dataset_version
from visionops_assets.config.production_rules import DriftRules
from visionops_assets.monitoring.collection import collect
from visionops_assets.monitoring.drift import DriftReference
from visionops_assets.monitoring.prediction import answer, log_rows, open_version, picture
from visionops_assets.monitoring.production_day import stored_day
from visionops_assets.monitoring.reference import REFERENCE_ARTIFACT
from visionops_assets.monitoring.spool_files import spooled_log
from visionops_assets.monitoring.watch import evidently_snapshot, report_page

TODAY = datetime.now(UTC).date()
ROWS = 40


def day(back: int) -> str:
    return (TODAY - timedelta(days=back)).isoformat()


def spool_day(
    world: ProductionWorld, version: ModelVersion, back: int, seed: int, *, light: float = 1.0
) -> None:
    """What a camera sees on a day, answered and logged by the code that serves."""
    random, model = np.random.default_rng(seed), open_version(world.registry, version)
    seen = []
    for number in range(ROWS):
        buffer = io.BytesIO()
        pixels = draw(CLASSES[number % 3], random)[..., 0]
        Image.fromarray((pixels * light).astype(np.uint8)).save(buffer, "PNG")
        seen.append(picture(f"{number}.png", buffer.getvalue(), model.shipped))
    noon = datetime(*date.fromisoformat(day(back)).timetuple()[:3], 0, 5, tzinfo=UTC)
    times = [noon + timedelta(seconds=number) for number in range(ROWS)]
    rows = log_rows(seen, answer(model, seen), device=f"camera-{version.version}", group="all", times=times)
    frames = [{**row, "frame": each.data} for row, each in zip(rows, seen, strict=True)]
    world.spool.put("shapes", f"camera-{version.version}", spooled_log("classification", frames))


@pytest.fixture
def watched(production: ProductionWorld) -> Iterator[tuple[ProductionWorld, str, str]]:
    """Three days of two models, the second's images half as bright on the last two; all materialised in one run."""
    world = production
    changes = {"min_rows": 30, "floor": 0.9, "labels": 10}
    world.projects = [
        project(since=day(4)).model_copy(update={"drift": world.project.drift.model_copy(update=changes)})
    ]
    published = world.publish("week-01", 160, seed=1)
    head = world.lakefs.head("shapes", "main")
    assert published is not None
    partition = dataset_version(head.id, head.created_at)
    world.instance.add_dynamic_partitions("shapes_dataset_versions", [partition])
    assert world.run("manifest", partition=partition).success
    first, second = world.register(1), world.register(2)
    for version in (first, second):
        world.registry.models.set_version_tags("shapes", version.version, {TAG_PARTITION: partition})
    for back in (3, 2, 1):
        spool_day(world, first, back, seed=back)
        spool_day(world, second, back, seed=10 + back, light=0.5 if back < 3 else 1.0)
    collect(world.project, lakefs=world.lakefs, spool=world.spool, lock=nullcontext(), now=datetime.now(UTC))
    job = world.definitions.resolve_job_def("shapes_days")
    tags = {"dagster/asset_partition_range_start": day(4), "dagster/asset_partition_range_end": day(1)}
    done = job.execute_in_process(instance=world.instance, tags=tags, raise_on_error=False)
    assert done.success
    yield world, first.weights_sha256, second.weights_sha256


def table(world: ProductionWorld, asset: str, back: int) -> pd.DataFrame:
    found = stored_day(world.artifacts, "shapes", asset, day(back))
    assert found is not None
    return found


def evaluations(world: ProductionWorld, asset: str, name: str) -> dict[str, dg.AssetCheckEvaluation]:
    """What a check said of each day."""
    key = dg.AssetCheckKey(dg.AssetKey(["shapes", asset]), name)
    records = world.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    made = [(one.partition, one.evaluation) for one in records]
    return {day: found for day, found in made if day and isinstance(found, dg.AssetCheckEvaluation)}


@pytest.mark.slow
def test_of_two_models_only_the_one_whose_camera_goes_dark_is_named(
    watched: tuple[ProductionWorld, str, str],
):
    world, first, second = watched
    drifted = {back: table(world, "drift_report", back) for back in (3, 2, 1)}
    for back, rows in drifted.items():
        named = set(rows["model_sha256"][rows["drifted"].astype(bool)])
        assert named == ({second} if back < 3 else set()), back
    said = evaluations(world, "drift_report", "no_drift")
    assert said[day(3)].passed
    assert not said[day(2)].passed and said[day(2)].severity == dg.AssetCheckSeverity.WARN
    alarm = said[day(1)]
    assert not alarm.passed and alarm.severity == dg.AssetCheckSeverity.ERROR
    assert alarm.description is not None
    assert second[:12] in alarm.description and first[:12] not in alarm.description
    assert "brightness" in alarm.description
    assert not said[day(4)].passed, "nobody logged anything on that day"

    metadata = world.latest("drift_report", day(1)).metadata
    reports = [name for name in metadata if name.startswith("report_")]
    assert reports == [f"report_{second[:12]}_all"]
    run_id = next(v.run_id for v in world.registry.models.versions("shapes") if v.weights_sha256 == second)
    page = world.registry.artifacts.read_bytes(run_id, f"monitoring/{day(1)}/all/drift.html")
    assert b"brightness" in page
    assert not [name for name in world.latest("drift_report", day(3)).metadata if name.startswith("report_")]
    assert world.registry.artifacts.exists(run_id, REFERENCE_ARTIFACT)
    assert world.registry.runs.get(run_id).metrics["all.drift_share"] > 0

    features = table(world, "features", 1)
    assert len(features) == 2 * ROWS
    assert features["brightness"].between(0, 1).all()

    known = table(world, "performance", 1)
    assert known["estimated"].notna().all() and known["realised"].isna().all()
    assert known["below"].astype(bool).all(), "two models that guess among three classes are below 0.9"
    assert not evaluations(world, "performance", "performance_holds")[day(1)].passed

    wanted = table(world, "labels_wanted", 1)
    assert len(wanted) == 20
    assert wanted["capture"].notna().all() and wanted["image_sha256"].is_unique
    assert not table(world, "labels_wanted", 4).size


def test_a_model_without_a_known_holdout_is_shown_and_not_judged(production: ProductionWorld):
    version = production.register(1)
    production.projects = [project(since=day(2))]
    spool_day(production, version, 1, seed=1)
    collect(
        production.project,
        lakefs=production.lakefs,
        spool=production.spool,
        lock=nullcontext(),
        now=datetime.now(UTC),
    )
    assert production.run(
        "inference_log", "features", "drift_report", "performance", "labels_wanted", partition=day(1)
    ).success
    (row,) = table(production, "drift_report", 1).to_dict("records")
    assert row["note"] == "version 1 names no dataset version, so it has no holdout"
    (check,) = evaluations(production, "drift_report", "no_drift").values()
    assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN
    (known,) = table(production, "performance", 1).to_dict("records")
    assert known["in_words"].endswith("no number without labels")


def test_evidently_computes_the_same_distances_and_draws_a_page():
    world = simulated.parts()
    reference = DriftReference(world.reference(), world.task, DriftRules())
    day = world.day(200, 0, shift=blur_and_darkness)
    found = reference.compare(day)
    metrics = evidently_snapshot(reference, day, found).dict()["metrics"]
    drifts = [metric for metric in metrics if metric["config"]["type"].endswith("ValueDrift")]
    distances = {metric["config"]["column"]: float(metric["value"]) for metric in drifts}
    ours = {column.column: column.distance for column in found.columns if column.kind != "embedding"}
    constant = {name for name, distance in ours.items() if distance == 0}
    assert constant == {"saturation", "width", "height"}
    ours = {name: distance for name, distance in ours.items() if name not in constant}
    assert distances == pytest.approx(ours, abs=1e-9)
    page = report_page(reference, day, found)
    assert all(name in page for name in ours)
