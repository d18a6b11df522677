"""The default detector learns, with the same bits each time, and ships as one file that says the same."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from detection_world import CLASSES, RECIPE, SIDE, request, train_here

from tests.finished_weights import from_its_weights
from visionops_assets.common.errors import ModelError
from visionops_assets.config.recipe import InputSpec
from visionops_assets.training.detector import SmallDetector
from visionops_assets.training.model_files import export_onnx, golden_images, parity
from visionops_assets.training.train import TrainingResult, train


@pytest.fixture(scope="module")
def file(trained: TrainingResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "model.onnx"
    export_onnx(trained.shipped, path)
    return path


def test_it_finds_what_it_was_shown(trained: TrainingResult) -> None:
    assert trained.metrics["validation_mAP50"] > 0.85
    assert trained.history[-1].train_loss < trained.history[0].train_loss
    assert trained.history[-1].score == "mAP50"


def test_the_same_training_gives_the_same_bits(trained: TrainingResult, tmp_path: Path) -> None:
    assert train_here(tmp_path).weights_sha256 == trained.weights_sha256
    assert train_here(tmp_path / "other", seed=1, epochs=1).weights_sha256 != trained.weights_sha256


def test_an_interrupted_training_goes_on_to_the_same_bits(trained: TrainingResult, tmp_path: Path) -> None:
    def interrupt(report) -> None:
        if report.epoch == 3:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        train(request(), tmp_path, interrupt)
    resumed = train(request(), tmp_path)
    assert resumed.weights_sha256 == trained.weights_sha256
    assert [report.restored for report in resumed.history[:4]] == [True, True, False, False]


def test_a_perfect_map_decodes_to_the_boxes_it_was_made_from() -> None:
    model = SmallDetector(2, InputSpec(height=32, width=32, channels=1), detections=3)
    outputs = torch.full((1, 6, 8, 8), -9.0)
    outputs[0, 1, 3, 2] = 4.0
    outputs[0, 2:, 3, 2] = torch.tensor([0.25, -0.25, np.log(3.0), np.log(2.0)])
    boxes, scores, labels = model.decode(outputs)
    assert labels[0, 0] == 1
    assert scores[0, 0] == pytest.approx(torch.sigmoid(torch.tensor(4.0)).item())
    # Centre at (2.75, 3.25) places of four pixels, 12 wide and 8 high.
    assert boxes[0, 0].tolist() == pytest.approx([11 - 6, 13 - 4, 12, 8])


def test_a_neighbour_of_a_peak_is_no_second_box() -> None:
    model = SmallDetector(1, InputSpec(height=32, width=32, channels=1), detections=5)
    outputs = torch.full((1, 5, 8, 8), -9.0)
    outputs[0, 0, 3, 2], outputs[0, 0, 3, 3], outputs[0, 0, 6, 6] = 4.0, 3.0, 2.0
    scores = model.decode(outputs)[1]
    assert (scores[0] > 0.5).sum() == 2


def test_the_loss_falls_to_nothing_where_the_outputs_are_right() -> None:
    model = SmallDetector(2, InputSpec(height=32, width=32, channels=1))
    targets = torch.tensor([[[5.0, 9.0, 12.0, 8.0, 1.0], [0.0, 0.0, 0.0, 0.0, -1.0]]])
    outputs = torch.full((1, 6, 8, 8), -12.0)
    outputs[0, 1, 3, 2] = 12.0
    outputs[0, 2:, 3, 2] = torch.tensor([0.25, -0.25, np.log(3.0), np.log(2.0)])
    right = model.loss(outputs, targets)
    outputs[0, 0, 3, 2], outputs[0, 1, 3, 2] = 12.0, -12.0
    assert right < 0.01 < 1 < model.loss(outputs, targets)


def test_images_without_a_box_are_trained_on_too() -> None:
    model = SmallDetector(2, InputSpec(height=32, width=32, channels=1))
    empty = torch.tensor([[[0.0, 0.0, 0.0, 0.0, -1.0]]])
    loss = model.loss(model(torch.zeros(1, 1, 32, 32)), empty)
    loss.backward()
    assert torch.isfinite(loss) and model.head.weight.grad is not None


def test_of_many_boxes_each_place_counts_for_the_nearest_of_its_class() -> None:
    model = SmallDetector(2, InputSpec(height=64, width=32, channels=1))
    random = torch.Generator().manual_seed(0)
    images, boxes = 3, 9
    labels = torch.randint(-1, 2, (images, boxes), generator=random)
    row, column = (torch.randint(0, most, (images, boxes), generator=random) for most in (16, 8))
    size = torch.rand(images, boxes, 2, generator=random) * 6 + 0.25
    heat = model._heat(labels, row.float(), column.float(), size)
    expected = torch.zeros_like(heat)
    for image, box in np.ndindex(images, boxes):
        if labels[image, box] < 0:
            continue
        spread = (size[image, box] / 6).clamp(min=0.35)
        for y, x in np.ndindex(16, 8):
            away = ((x - column[image, box]) / spread[0]) ** 2 + ((y - row[image, box]) / spread[1]) ** 2
            place = (image, labels[image, box], y, x)
            expected[place] = torch.maximum(expected[place], torch.exp(-away / 2))
    assert torch.allclose(heat, expected, atol=1e-6)


@pytest.mark.parametrize(("levels", "seen"), [(1, 63), (2, 151), (3, 327)])
def test_a_place_sees_as_much_as_its_levels_say(levels: int, seen: int) -> None:
    model = SmallDetector(1, InputSpec(height=512, width=512, channels=1), width=1, levels=levels).eval()
    # Every path carries something, whatever weights were drawn.
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
    image = torch.zeros(1, 1, 512, 512, requires_grad=True)
    model(image)[0, 0, 64, 64].backward()
    assert image.grad is not None
    across = image.grad[0, 0].abs().sum(dim=0).nonzero()
    assert across.max() - across.min() + 1 == seen


@pytest.mark.parametrize("levels", [1, 2])
def test_a_side_that_the_levels_do_not_divide_is_refused(levels: int) -> None:
    step = 4 << levels
    with pytest.raises(ModelError, match=f"sides that {step} divides, got {2 * step - 2} × 32"):
        train_here(
            Path("unused"),
            input={"height": 2 * step - 2, "width": 32, "channels": 1},
            model={**RECIPE["model"], "init_args": {"levels": levels}},
        )


@pytest.mark.slow
def test_a_deeper_detector_keeps_its_bits_when_interrupted_and_ships_what_it_learnt(tmp_path: Path) -> None:
    def interrupt(report) -> None:
        if report.epoch == 1:
            raise ConnectionError

    deeper = {"model": {**RECIPE["model"], "init_args": {"width": 4, "levels": 2}}, "epochs": 3}
    undisturbed = train_here(tmp_path / "undisturbed", **deeper)
    with pytest.raises(ConnectionError):
        train(request(**deeper), tmp_path / "interrupted", interrupt)
    assert train_here(tmp_path / "interrupted", **deeper).weights_sha256 == undisturbed.weights_sha256
    export_onnx(undisturbed.shipped, tmp_path / "model.onnx")
    report = parity(tmp_path / "model.onnx", undisturbed.shipped, golden_images(request().train))
    assert report.passed, report.summary


def test_a_classifier_is_refused_as_a_detector(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="SmallConvNet has no method 'decode', which a detector needs"):
        train_here(tmp_path, model={"class_path": "visionops_assets.training.models.SmallConvNet"})


@pytest.mark.slow
def test_the_file_agrees_with_the_trained_model(file: Path, trained: TrainingResult) -> None:
    report = parity(file, trained.shipped, golden_images(request().train))
    assert report.passed, report.summary
    assert report.agreement == 1
    assert "scores and boxes differ by at most" in report.summary


def test_the_file_of_other_weights_fails_parity(file: Path, tmp_path: Path) -> None:
    other = train_here(tmp_path, epochs=1)
    assert not parity(file, other.shipped, golden_images(request().train)).passed


def test_the_file_holds_outputs_and_metadata_of_the_contract(file: Path) -> None:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    shapes = {output.name: output.shape for output in session.get_outputs()}
    assert shapes == {
        "boxes": ["N", 8, 4],
        "scores": ["N", 8],
        "labels": ["N", 8],
        "embedding": ["N", 32],
    }
    described = session.get_modelmeta().custom_metadata_map
    assert described["visionops.task"] == "detection"
    assert json.loads(described["visionops.classes"]) == list(CLASSES)
    for count in (0, 1, 5):
        boxes, scores, labels = session.run(
            ["boxes", "scores", "labels"], {"images": np.zeros((count, SIDE, SIDE, 1), np.uint8)}
        )
        assert (boxes.shape, scores.shape, labels.dtype) == ((count, 8, 4), (count, 8), np.int64)


def test_the_same_weights_give_the_same_file(file: Path, trained: TrainingResult, tmp_path: Path) -> None:
    task = request().task
    loaded = from_its_weights(trained, CLASSES, task)
    export_onnx(loaded, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()
