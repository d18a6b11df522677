"""From which score on a detector's boxes are meant."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from detection_world import request, train_here

from visionops_assets.images.box_metrics import Matching, best_threshold
from visionops_assets.inference.shipped_model import open_model
from visionops_assets.training.detection import answer_boxes, target_boxes
from visionops_assets.training.model_files import export_onnx
from visionops_assets.training.train import TrainingResult


def f1(scores: np.ndarray, hits: np.ndarray, truths: int, least: float) -> float:
    """By the definition."""
    kept = scores >= least
    return float(2 * hits[kept].sum() / (kept.sum() + truths)) if kept.any() else 0.0


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_of_hundredths_gives_a_better_f1(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 60))
    scores = random.beta(1, 2, count).round(int(random.integers(1, 4)))
    hits = random.random(count) < scores
    hits[int(random.integers(count))] = True
    truths = int(hits.sum()) + int(random.integers(0, 20))
    found = best_threshold(scores, hits, truths)
    assert found is not None
    grid = [f1(scores, hits, truths, least / 100) for least in range(1, 100)]
    assert found.f1 == pytest.approx(max(grid)) == pytest.approx(f1(scores, hits, truths, found.min_score))


def test_between_clear_scores_the_middle_is_taken() -> None:
    scores = np.array([0.9, 0.85, 0.8, 0.2, 0.15, 0.1])
    found = best_threshold(scores, scores > 0.5, 3)
    assert found is not None
    assert found.min_score == pytest.approx(0.51) and found.f1 == 1
    assert best_threshold(scores + 1e-7, scores > 0.5, 3) == found, "rounding of a runtime moves nothing"


def test_without_a_hit_there_is_no_threshold() -> None:
    assert best_threshold(np.array([0.5, 0.9]), np.zeros(2, bool), 4) is None
    assert best_threshold(np.zeros(0), np.zeros(0, bool), 4) is None


def test_it_is_chosen_on_validation_and_kept_with_the_model(trained: TrainingResult, tmp_path: Path) -> None:
    validation = request().validation
    assert validation is not None and trained.min_score is not None
    export_onnx(trained.shipped, tmp_path / "model.onnx", trained.min_score)
    opened = open_model(tmp_path / "model.onnx")
    assert opened.min_score == trained.min_score == trained.metrics["min_score"]
    session = onnxruntime.InferenceSession(str(opened.path), providers=["CPUExecutionProvider"])
    boxes, scores, labels = session.run(
        ["boxes", "scores", "labels"], {"images": validation.source.gather(validation.rows)}
    )
    truths, answers = target_boxes(validation.labels), answer_boxes(boxes, scores, labels)
    matching = Matching(truths, answers, images=len(validation), classes=2)
    found, hits = matching.scored(0.5)
    assert trained.metrics["validation_F1"] == pytest.approx(
        f1(found, hits, len(truths.labels), opened.min_score)
    )
    assert trained.metrics["validation_F1"] > 0.8


def test_the_same_training_keeps_the_same_threshold_when_it_is_taken_up_again(
    trained: TrainingResult, tmp_path: Path
) -> None:
    train_here(tmp_path, epochs=15)
    again = train_here(tmp_path, epochs=15)
    assert all(report.restored for report in again.history)
    assert (again.weights_sha256, again.min_score) == (trained.weights_sha256, trained.min_score)


def test_a_file_of_before_says_nothing_of_it(trained: TrainingResult, tmp_path: Path) -> None:
    export_onnx(trained.shipped, tmp_path / "model.onnx")
    assert open_model(tmp_path / "model.onnx").min_score is None
    described = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).get_modelmeta().custom_metadata_map
    assert json.loads(described["visionops.format"]) == 1
