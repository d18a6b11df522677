"""A model's reference: its answers on its holdout as rows of the log, found by the model's digest."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from production_world import SIDE, linear_model

from resources.models.records import TAG_WEIGHTS, ModelVersion
from tests.world import CLASSES
from visionops_assets.common.tables import frame_from_parquet, to_parquet
from visionops_assets.config.production_rules import DriftRules
from visionops_assets.inference.shipped_model import open_model
from visionops_assets.monitoring.drift import DriftReference
from visionops_assets.monitoring.prediction import Picture, RunningModel
from visionops_assets.monitoring.reference import NoReference, labels_of, reference_rows, version_of

ROWS = 60


def holdout(task: str) -> pd.DataFrame:
    """The truths of a manifest's rows."""
    if task == "classification":
        return pd.DataFrame({"label": [CLASSES[number % 3] for number in range(ROWS)]})
    box = {"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "label": CLASSES[0]}
    return pd.DataFrame({"boxes": [[box] * (number % 3) for number in range(ROWS)]})


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_the_reference_is_stored_and_read_as_it_was_and_a_day_of_it_does_not_drift(tmp_path: Path, task: str):
    onnx, _ = linear_model(1, task)
    (tmp_path / "model.onnx").write_bytes(onnx)
    model = RunningModel(1, "a" * 64, "b" * 64, open_model(tmp_path / "model.onnx", 1))
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, SIDE, SIDE, 1), dtype=np.uint8)
    seen = [Picture("", b"", f"{number:064x}", (40, 30), each) for number, each in enumerate(pixels)]
    rows = reference_rows(model, [seen[:25], seen[25:]], labels_of(holdout(task), task))
    stored = frame_from_parquet(to_parquet(rows))
    assert stored["image_sha256"].tolist() == [each.sha256 for each in seen]
    assert set(stored["width"]) == {40} and set(stored["height"]) == {30}
    if task == "detection":
        assert [len(boxes) for boxes in stored["label"][:3]] == [0, 1, 2]
        assert stored["label"][1][0]["class"] == CLASSES[0]
    else:
        assert stored["label"].tolist()[:3] == list(CLASSES)
    found = DriftReference(stored, task, DriftRules()).compare(rows)
    assert found.compared
    assert not found.drifted


def test_a_reference_is_found_by_digest_and_never_by_date():
    def version(number: int, weights: str) -> ModelVersion:
        return ModelVersion("digits", number, f"run-{number}", datetime.now(UTC), {TAG_WEIGHTS: weights})

    versions = [version(1, "a" * 64), version(2, "b" * 64), version(3, "a" * 64)]
    assert version_of(versions, "a" * 64).version == 3
    assert version_of(versions, "b" * 64).version == 2
    with pytest.raises(NoReference, match="no registered version has the weights cccccccccccc"):
        version_of(versions, "c" * 64)
