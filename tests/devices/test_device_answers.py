"""A device answers what the product answers of the same file and image, for both tasks."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edge.onnx_model import DEFAULT_MIN_SCORE, ModelFileError, NotFinite, open_model
from edge.selftest import Golden, examine
from tests.devices.small_fleet import onnx_file
from visionops_assets.inference.shipped_model import open_model as opened_by_the_product
from visionops_assets.monitoring.prediction import RunningModel, answer, meant, picture

CLASSES = ["bolt", "nut", "screw"]


def detector(path: Path, *, resize: str = "fit", min_score: float | None = None, label: int = 1) -> Path:
    """A detector whose scores follow the image's brightness; its boxes lie at odd places."""
    boxes = np.array([[[1, 2, 10, 5], [3.5, 0, 7, 20], [0, 0, 1, 1], [30, 10, 2, 2]]], np.float32)
    labels = np.array([[0, label, 2, 0]], np.int64)
    factors = np.array([[0.9, 1.2, 0.1, 0.0]], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
            helper.make_node("Mul", ["column", "factors"], ["scaled"]),
            helper.make_node("Div", ["scaled", "most"], ["scores"]),
            helper.make_node("Shape", ["mean"], ["count"]),
            helper.make_node("Concat", ["count", "rest"], ["times"], axis=0),
            helper.make_node("Expand", ["box", "times3"], ["boxes"]),
            helper.make_node("Concat", ["count", "rest1"], ["times3"], axis=0),
            helper.make_node("Expand", ["label", "times"], ["labels"]),
        ],
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 24, 40, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 4, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["N", 4]),
        ],
        [
            numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
            numpy_helper.from_array(factors, "factors"),
            numpy_helper.from_array(np.array(255, np.float32), "most"),
            numpy_helper.from_array(np.array([4], np.int64), "rest"),
            numpy_helper.from_array(np.array([4, 4], np.int64), "rest1"),
            numpy_helper.from_array(boxes, "box"),
            numpy_helper.from_array(labels, "label"),
        ],
    )
    # Nodes in the order in which they can run.
    nodes = list(graph.node)
    nodes[7], nodes[8] = nodes[8], nodes[7]
    del graph.node[:]
    graph.node.extend(nodes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    described = {
        "visionops.format": "1",
        "visionops.task": "detection",
        "visionops.classes": json.dumps(CLASSES),
        "visionops.input": json.dumps({"height": 24, "width": 40, "channels": 3, "resize": resize}),
        **({} if min_score is None else {"visionops.min_score": f"{min_score:g}"}),
    }
    for key, value in described.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def image(seed: int, height: int, width: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(60, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def both(model: Path, data: bytes, least: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the device says, and what the product says of the boxes that are meant."""
    running = RunningModel(1, "w", "o", opened_by_the_product(model, 1))
    (said,) = answer(running, [picture("x", data, running.shipped)])
    told = meant(said, least).to_json()
    told.pop("model")
    opened = open_model(model)
    found, _ = opened.answer(*opened.decode(data))
    found.pop("cpu_ms")
    return found, told


@pytest.mark.parametrize("resize", ["fit", "stretch"])
@pytest.mark.parametrize("min_score", [None, 0.1, 0.7])
def test_a_detector_says_the_same_boxes(tmp_path: Path, resize: str, min_score: float | None) -> None:
    model = detector(tmp_path / "model.onnx", resize=resize, min_score=min_score)
    seen = 0
    for seed, (height, width) in enumerate(((24, 40), (100, 61), (30, 200))):
        found, told = both(
            model, image(seed, height, width), DEFAULT_MIN_SCORE if min_score is None else min_score
        )
        assert found == told
        seen += len(found["boxes"])
    assert seen >= 1


def test_a_classifier_says_the_same_probabilities(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(onnx_file(3))
    for seed in range(5):
        found, told = both(model, image(seed, 20, 30), 0.0)
        assert found == told


def test_a_class_that_a_detector_does_not_have_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match="names 3 classes"):
        opened = open_model(detector(tmp_path / "model.onnx", label=7))
        opened.answer(*opened.decode(image(0, 24, 40)))


def test_a_detectors_golden_answers(tmp_path: Path) -> None:
    model = detector(tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 255, (6, 24, 40, 3), dtype=np.uint8)
    golden = Golden.of(open_model(model), images)
    (tmp_path / "golden.npz").write_bytes(golden.to_bytes())
    rules = {"tolerance": 0.001, "same_first_class": 1.0}
    assert examine(model, tmp_path / "golden.npz", rules, {})[0] is None
    for change in (
        {"scores": golden.answers["scores"] + 0.01},
        {"labels": 2 - golden.answers["labels"]},
        {"scores": golden.answers["scores"][:, :3]},
        {"boxes": golden.answers["boxes"] + 5},
    ):
        other = Golden(images, {**golden.answers, **change})
        (tmp_path / "other.npz").write_bytes(other.to_bytes())
        assert examine(model, tmp_path / "other.npz", rules, {})[0] == "selftest", list(change)


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\0" * 1000])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match="cannot open"):
        open_model(tmp_path / "model.onnx")
    (tmp_path / "golden.npz").write_bytes(content)
    assert examine(tmp_path / "model.onnx", tmp_path / "golden.npz", {}, {})[0] == "selftest"
