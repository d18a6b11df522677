"""What is stored and read again says the same as what was computed, in both tasks."""

import pandas as pd
import production as simulated
import pyarrow as pa
import pytest
from production import darkness

from visionops_assets.common.tables import frame_from_parquet, to_parquet
from visionops_assets.config.production_rules import DriftRules
from visionops_assets.monitoring.drift import DriftReference
from visionops_assets.monitoring.inference_log import empty_log, log_schema
from visionops_assets.monitoring.labels_wanted import labels_wanted
from visionops_assets.monitoring.performance import performance_of_day
from visionops_assets.monitoring.production_day import (
    FEATURE_KEYS,
    described_features,
    features_of,
    stored_features,
)
from visionops_assets.monitoring.signals import numeric_signals


def logged(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """Rows as they come back from the stored log."""
    kept = rows.assign(capture="captures/" + rows["image_sha256"])
    return pa.Table.from_pandas(
        kept[log_schema(task).names], log_schema(task), preserve_index=False
    ).to_pandas()


@pytest.mark.parametrize("make", [simulated.digits, simulated.parts])
def test_drift_performance_and_labels_survive_being_stored(make):
    world = make()
    task, classes = world.task, tuple("0123456789") if world.task == "classification" else simulated.PARTS
    reference = world.reference()
    stored_reference = frame_from_parquet(
        to_parquet(reference.drop(columns=["timestamp", "device", "device_group"]))
    )
    day = world.day(200, 0, shift=darkness)
    log = logged(day, task)
    features = stored_features(features_of(log, task), task).to_pandas()
    assert set(FEATURE_KEYS) | set(numeric_signals(task)) <= set(features.columns)
    direct = DriftReference(reference, task, DriftRules()).compare(day)
    stored = DriftReference(stored_reference, task, DriftRules()).compare(features)
    for one, other in zip(direct.columns, stored.columns, strict=True):
        assert (one.column, one.drifted, one.note) == (other.column, other.drifted, other.note)
        assert other.distance == pytest.approx(one.distance, rel=1e-3, abs=1e-3)
    ours = performance_of_day(day, task, classes, None, 50).realised
    theirs = performance_of_day(log, task, classes, None, 50).realised
    assert ours is not None and theirs is not None
    assert theirs.value == pytest.approx(ours.value, abs=1e-6)
    wanted = labels_wanted(log.assign(label=None), stored_reference, task, 20)
    assert len(wanted) == 20
    assert wanted["novelty"].notna().all()


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_a_day_without_rows_is_an_empty_table_of_the_same_columns(task):
    empty = features_of(empty_log(task), task)
    assert stored_features(empty, task).num_rows == 0
    assert set(numeric_signals(task)) <= set(empty.columns)
    assert described_features(empty).empty


def test_boxes_of_hardly_any_score_are_no_part_of_what_a_detector_says():
    world = simulated.parts()
    log = world.day(30, 0)
    left = {"x": 0.0, "y": 0.0, "w": 60.0, "h": 60.0, "class": "pin", "score": 0.05}
    padded = log.assign(boxes=[[*boxes, *[left] * (20 - len(boxes))] for boxes in log["boxes"]])
    assert (
        features_of(padded, "detection")
        .drop(columns="boxes")
        .equals(features_of(log, "detection").drop(columns="boxes"))
    )
