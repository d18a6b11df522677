"""Answers of the file that ships, in pixels of the whole image, and drawn as pictures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from detected import CLASSES, answers, table, truths

from edge.onnx_model import ModelFileError
from visionops_assets.config.gate_rules import Costs, GateRules
from visionops_assets.config.recipe import InputSpec
from visionops_assets.evaluation.evaluation_task import evaluation_task
from visionops_assets.evaluation.found_boxes import examples_picture
from visionops_assets.inference.detections import Detections, as_boxes, detections_table
from visionops_assets.inference.shipped_model import ShippedModel

INPUT = InputSpec(height=50, width=50, channels=1)


def holdout(width: int, height: int) -> pd.DataFrame:
    keys = {"sha256": "0" * 64, "path": "batches/b/images/1.png", "batch": "b", "group": "g"}
    return pd.DataFrame([{**keys, "boxes": [], "width": width, "height": height}])


def found(scores: list[float], boxes: list[list[float]], spec: InputSpec = INPUT) -> Detections:
    labels = np.arange(len(scores))[None]
    return Detections(CLASSES, spec, np.array([boxes], np.float32), np.array([scores], np.float32), labels)


def test_boxes_return_to_the_pixels_of_the_whole_image() -> None:
    # 200 × 100 becomes 50 × 25, with 12 rows above.
    said = found([0.4, 0.9], [[5, 14.5, 10, 5], [0, 12, 50, 25]])
    (boxes,) = detections_table(holdout(200, 100), challenger=said)["challenger_boxes"]
    assert [box["label"] for box in boxes] == ["nut", "bolt"]
    assert [boxes[1][side] for side in ("x", "y", "w", "h")] == [20, 10, 40, 20]
    assert [boxes[0][side] for side in ("x", "y", "w", "h")] == [0, 0, 200, 100]


def test_a_score_of_zero_is_no_box_and_a_nan_stays_for_the_gate() -> None:
    said = found([0.0, float("nan")], [[0, 0, 9, 9], [0, 0, 9, 9]])
    (boxes,) = detections_table(holdout(50, 50), challenger=said)["challenger_boxes"]
    assert len(boxes) == 1 and np.isnan(boxes[0]["score"])


def test_a_champion_may_know_other_classes() -> None:
    column = pd.Series([[{"x": 0.0, "y": 0.0, "w": 5.0, "h": 5.0, "label": "rivet", "score": 0.9}]])
    assert len(as_boxes(column, CLASSES).labels) == 0


class Session:
    """Answers each image's first pixel, and notes how many pixels it was given at once."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        images = inputs["images"]
        self.given.append(images.shape[0] * images.shape[1] * images.shape[2])
        return [images[:, 0, 0, 0] for _ in outputs]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (864, 488), (1080, 1920), (3000, 4000)])
def test_large_images_are_answered_a_few_at_a_time_and_in_their_order(height: int, width: int) -> None:
    session, spec = Session(), InputSpec(height=height, width=width, channels=1)
    images = np.zeros((11, height, width, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(11)
    model = ShippedModel(Path("model.onnx"), session, "detection", CLASSES, spec)
    first, second = model.run([images[:6], images[6:]], ["boxes", "scores"])
    assert [list(batch) for batch in first] == [list(range(6)), list(range(6, 11))]
    assert [list(batch) for batch in second] == [list(batch) for batch in first]
    assert all(pixels <= max(2**22, height * width) for pixels in session.given)
    assert len(session.given) == 2 or height * width * 6 > 2**22


def test_a_file_of_the_other_task_is_refused_by_name() -> None:
    classifier = ShippedModel(Path("model.onnx"), None, "classification", CLASSES, INPUT)
    with pytest.raises(
        ModelFileError, match="is a model for classification, the project's task is detection"
    ):
        evaluation_task("detection").answers(classifier, [])


def test_rules_that_mean_nothing_in_a_task_are_refused() -> None:
    costs = Costs(unit="EUR", matrix={}, otherwise=1.0)
    with pytest.raises(ValueError, match="costs are for classification"):
        GateRules(costs=costs).check_task("detection")
    with pytest.raises(ValueError, match="object_size, which only detection has"):
        GateRules(critical_slices=("object_size=small",)).check_task("classification")
    with pytest.raises(ValueError, match="the smaller side first"):
        GateRules(object_sizes=(96, 32))


def test_the_picture_shows_the_worst_images_of_each_batch_in_few_bytes() -> None:
    rng = np.random.default_rng(0)
    images = truths(30, rng)
    said = answers(images, rng, recall=1.0, stray=0.0)
    for number in (4, 20):
        said[number] = []
    batches = ["a"] * 15 + ["b"] * 15
    predictions = table(images, said, batches=batches)
    asked: list[str] = []

    def noise(paths: list[str]) -> list[tuple[str, np.ndarray]]:
        asked.extend(paths)
        return [(path, rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)) for path in paths]

    picture = examples_picture(predictions, CLASSES, noise)
    assert picture.startswith(b"\x89PNG") and len(picture) < 50_000
    assert asked[:2] == [predictions["path"][4], predictions["path"][20]]
    assert len(asked) == 8
