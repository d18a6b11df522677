"""Answers of the ONNX files that ship, joined to one table."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from holdouts import CLASSES, answers, context, holdout, labels_in_turn
from onnx import TensorProto, helper

from edge.onnx_model import ModelFileError
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.inference.predictions import Scores, holdout_digest, predictions_table, scores_of
from visionops_assets.inference.shipped_model import open_model

SHAPE = (4, 5, 1)


def write_model(path: Path, weights: np.ndarray, **metadata: str) -> Path:
    """A linear classifier of uint8 [N, 4, 5, 1] images, as a file that ships."""
    features = int(np.prod(SHAPE))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["real", "flat"], ["embedding"]),
            helper.make_node("MatMul", ["embedding", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *SHAPE])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", weights.shape[1]]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", features]),
        ],
        [
            helper.make_tensor("flat", TensorProto.INT64, [2], [-1, features]),
            helper.make_tensor(
                "weights", TensorProto.FLOAT, weights.shape, weights.astype(np.float32).ravel()
            ),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    described = {
        "visionops.format": "1",
        "visionops.classes": json.dumps(CLASSES),
        "visionops.input": json.dumps({"height": 4, "width": 5, "channels": 1, "resize": "stretch"}),
    }
    helper.set_model_props(model, described | metadata)
    onnx.save(model, path)
    return path


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.02, (20, 3))


def images(size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (size, *SHAPE), dtype=np.uint8)


def score_images(file: Path, batches: Iterable[np.ndarray], *, embeddings: bool = False) -> Scores:
    return scores_of(open_model(file), batches, embeddings=embeddings)


def test_answers_do_not_depend_on_batches(tmp_path: Path, weights: np.ndarray) -> None:
    file = write_model(tmp_path / "model.onnx", weights)
    pixels = images(25)
    whole = score_images(file, [pixels], embeddings=True)
    parts = score_images(file, [pixels[:0], pixels[:7], pixels[7:24], pixels[24:]], embeddings=True)
    flat = pixels.reshape(25, -1).astype(np.float32)
    raised = np.exp(flat @ weights.astype(np.float32))
    np.testing.assert_allclose(whole.probabilities, raised / raised.sum(axis=1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, rtol=1e-6)
    assert whole.embeddings is not None and parts.embeddings is not None
    np.testing.assert_array_equal(parts.embeddings, flat)
    assert whole.classes == CLASSES


def test_one_batch_at_a_time_is_held(tmp_path: Path, weights: np.ndarray) -> None:
    alive: list[int] = []

    def batches() -> Iterator[np.ndarray]:
        for number in range(5):
            alive.append(number)
            yield images(10)

    scores = score_images(write_model(tmp_path / "model.onnx", weights), batches())
    assert len(scores.probabilities) == 50
    assert alive == [0, 1, 2, 3, 4]


def test_a_model_that_computes_nan_is_refused_by_the_gate(tmp_path: Path, weights: np.ndarray) -> None:
    labels = labels_in_turn(60)
    file = write_model(tmp_path / "model.onnx", weights * np.nan)
    predictions = predictions_table(holdout(labels), challenger=score_images(file, [images(60)]))
    assert predictions["challenger_prediction"].isna().all()
    verdict = gate_verdict(predictions, GateRules(), context=context(predictions))
    assert verdict.verdict == "FAIL"
    assert any("not finite" in reason.text for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"visionops.format": "2"}, "should be '1', is '2'"),
        ({"visionops.classes": "bolt, nut"}, "metadata is incomplete"),
        ({"visionops.classes": '["bolt", "nut"]'}, "gives 3 probabilities, but names 2 classes"),
        ({"visionops.input": "{}"}, "metadata is incomplete"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, weights: np.ndarray, metadata: dict[str, str], complaint: str
) -> None:
    file = write_model(tmp_path / "model.onnx", weights, **metadata)
    with pytest.raises(ModelFileError, match=complaint) as refused:
        score_images(file, [images(3)])
    assert str(file) in str(refused.value)


def test_a_broken_or_missing_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match=r"broken\.onnx: ONNX Runtime cannot open it"):
        score_images(broken, [])
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx"):
        score_images(tmp_path / "missing.onnx", [])


def test_images_of_another_size_are_refused(tmp_path: Path, weights: np.ndarray) -> None:
    file = write_model(tmp_path / "model.onnx", weights)
    with pytest.raises(ModelFileError, match="takes uint8 images of 4×5×1, was given uint8 of 5×4×1"):
        score_images(file, [np.zeros((2, 5, 4, 1), np.uint8)])
    with pytest.raises(ModelFileError, match="was given float64"):
        score_images(file, [np.zeros((2, 4, 5, 1))])  # type: ignore[list-item]


def test_the_table_holds_both_models_side_by_side() -> None:
    labels = labels_in_turn(6)
    rows = holdout(labels).assign(camera=list("abcabc"))
    right = np.array([True, False, True, True, False, True])
    challenger, champion = answers(labels, right), answers(labels, ~right)
    predictions = predictions_table(
        rows, challenger=challenger, champion=champion, slices=("camera", "light")
    )
    assert ((predictions["challenger_prediction"] == predictions["label"]) == right).all()
    assert ((predictions["champion_prediction"] == predictions["label"]) == ~right).all()
    assert predictions["camera"].tolist() == list("abcabc")
    assert "light" not in predictions
    assert predictions["challenger_confidence"].tolist() == pytest.approx([0.9] * 6)
    alone = predictions_table(rows, challenger=challenger)
    assert not any(str(column).startswith("champion") for column in alone)


def test_a_champion_may_know_other_classes() -> None:
    labels = labels_in_turn(3)
    older = Scores(("bolt", "nut"), np.array([[0.9, 0.1]] * 3, dtype=np.float32))
    predictions = predictions_table(
        holdout(labels), challenger=answers(labels, np.ones(3, bool)), champion=older
    )
    assert predictions["champion_prediction"].tolist() == ["bolt"] * 3


def test_a_missing_answer_is_an_error() -> None:
    labels = labels_in_turn(6)
    with pytest.raises(ValueError, match="the challenger answered 3 images, the holdout has 6"):
        predictions_table(holdout(labels), challenger=answers(labels[:3], np.ones(3, bool)))


def test_the_holdout_digest_follows_content_and_not_order() -> None:
    rows = holdout(labels_in_turn(20)).assign(camera="left")
    digest = holdout_digest(rows, ("camera",))
    assert holdout_digest(rows.sample(frac=1, random_state=0), ("camera",)) == digest
    for column in ("sha256", "label", "group", "batch", "camera"):
        assert holdout_digest(rows.assign(**{column: "other"}), ("camera",)) != digest
    assert holdout_digest(rows.head(19), ("camera",)) != digest
    predictions = predictions_table(
        rows, challenger=answers(list(rows["label"]), np.ones(20, bool)), slices=("camera",)
    )
    assert holdout_digest(predictions, ("camera",)) == digest
