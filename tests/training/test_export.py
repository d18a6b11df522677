"""The ONNX file that ships says what the model says, names what it needs, and is the same file each time."""

import inspect
import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.onnx._internal.exporter import _core
from training_world import CLASSES, request, train_here

from tests import onnx_exporter
from tests.finished_weights import from_its_weights
from visionops_assets.common.errors import ExportError
from visionops_assets.config.recipe import ModelSpec
from visionops_assets.training.classification import ShippedClassifier
from visionops_assets.training.detection import ShippedDetector
from visionops_assets.training.detector import SmallDetector
from visionops_assets.training.model_files import export_onnx, golden_images, parity
from visionops_assets.training.models import Shipped, SmallConvNet, build_model
from visionops_assets.training.train import TrainingResult


@pytest.fixture(scope="module")
def shipped(trained: TrainingResult, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("shipped") / "model.onnx"
    return path, export_onnx(trained.shipped, path)


def fresh(name: str) -> ShippedClassifier:
    """An untrained foreign model; what is exported does not depend on how good it is."""
    spec = request().recipe.input
    torch.manual_seed(0)
    return ShippedClassifier(
        build_model(ModelSpec(class_path=f"foreign_models.{name}"), CLASSES, spec), CLASSES, spec
    )


def test_the_file_agrees_with_the_trained_model(shipped: tuple[Path, str], trained: TrainingResult) -> None:
    report = parity(shipped[0], trained.shipped, golden_images(request().train))
    assert report.passed
    assert report.images == 62
    assert report.agreement == 1
    assert report.largest_embedding_difference < 1e-4
    assert "agrees with" in report.summary


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PlainNet", "WithEverything", "OwnLightning", "a_function"])
def test_foreign_models_ship_too(name: str, tmp_path: Path) -> None:
    classifier = fresh(name)
    export_onnx(classifier, tmp_path / "model.onnx")
    assert parity(tmp_path / "model.onnx", classifier, golden_images(request().train)).passed


def test_the_file_holds_inputs_outputs_and_metadata_of_the_contract(shipped: tuple[Path, str]) -> None:
    session = onnxruntime.InferenceSession(str(shipped[0]), providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["N", 8, 8, 1])
    named = {output.name: output for output in session.get_outputs()}
    assert set(named) == {"probabilities", "embedding"}
    assert named["probabilities"].shape == ["N", 3] and named["embedding"].shape == ["N", 16]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["visionops.classes"]) == list(CLASSES)
    size = {"height": 8, "width": 8, "channels": 1, "resize": "fit"}
    assert json.loads(metadata["visionops.input"]) == size
    assert metadata["visionops.format"] == "1"


@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_any_number_of_images_gives_probabilities_that_sum_to_one(
    count: int, shipped: tuple[Path, str]
) -> None:
    session = onnxruntime.InferenceSession(str(shipped[0]), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    probabilities, embedding = session.run(["probabilities", "embedding"], {"images": images})
    assert probabilities.shape == (count, 3) and embedding.shape == (count, 16)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_same_weights_give_the_same_file(
    shipped: tuple[Path, str], trained: TrainingResult, tmp_path: Path
) -> None:
    loaded = from_its_weights(trained, CLASSES)
    assert export_onnx(loaded, tmp_path / "again.onnx") == shipped[1]
    other = train_here(tmp_path / "other", seed=5)
    assert export_onnx(other.shipped, tmp_path / "other.onnx") != shipped[1]


@pytest.mark.stated
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_the_exporter_as_the_tests_keep_it_writes_the_file_of_an_untouched_one(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = request().recipe.input

    def digests(folder: str) -> list[str]:
        found = []
        for seed in range(2):
            torch.manual_seed(seed)
            if task == "detection":
                model: Shipped = ShippedDetector(SmallDetector(len(CLASSES), spec), CLASSES, spec)
            else:
                model = ShippedClassifier(SmallConvNet(len(CLASSES), spec), CLASSES, spec)
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_()
            found.append(export_onnx(model, tmp_path / folder))
        return found

    onnx_exporter.keep()
    kept = digests("kept.onnx")
    strategy = _core._capture_strategies.TorchExportNonStrictStrategy
    monkeypatch.setattr(strategy, "_capture", inspect.unwrap(strategy._capture))
    prepare = _core._prepare_exported_program_for_export
    monkeypatch.setattr(_core, "_prepare_exported_program_for_export", inspect.unwrap(prepare))
    assert digests("untouched.onnx") == kept
    assert len(set(kept)) == 2


def test_the_file_names_no_path_of_this_machine(shipped: tuple[Path, str]) -> None:
    content = shipped[0].read_bytes()
    for path in (os.fsencode(Path.cwd()), os.fsencode(Path(torch.__file__).parent), b"site-packages", b".py"):
        assert path not in content


def test_a_file_of_other_weights_fails_parity(shipped: tuple[Path, str], tmp_path: Path) -> None:
    other = train_here(tmp_path / "other", seed=5)
    report = parity(shipped[0], other.shipped, golden_images(request().train))
    assert not report.passed
    assert "DIFFERS" in report.summary


def test_a_file_that_gives_no_number_fails_parity(
    shipped: tuple[Path, str], trained: TrainingResult, tmp_path: Path
) -> None:
    model = onnx.load(shipped[0])
    biased = next(tensor for tensor in model.graph.initializer if tensor.name == "model.head.bias")
    biased.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), biased.name))
    onnx.save(model, tmp_path / "broken.onnx")
    assert not parity(tmp_path / "broken.onnx", trained.shipped, golden_images(request().train)).passed


def test_a_model_that_cannot_be_traced_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="BranchesOnValues cannot be written as ONNX"):
        export_onnx(fresh("BranchesOnValues"), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_number_of_images_that_became_a_constant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="CountsImages cannot be written as ONNX"):
        export_onnx(fresh("CountsImages"), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_for_two_images_alone_does_not_pass(
    shipped: tuple[Path, str], trained: TrainingResult, tmp_path: Path
) -> None:
    model = onnx.load(shipped[0])
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "two.onnx")
    report = parity(tmp_path / "two.onnx", trained.shipped, golden_images(request().train))
    assert not report.passed
    assert report.summary.startswith("ONNX Runtime cannot run the ONNX file: 1 image(s) together: ")


def test_a_file_that_the_runtime_cannot_open_does_not_pass(trained: TrainingResult, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(b"no model")
    report = parity(tmp_path / "cut.onnx", trained.shipped, golden_images(request().train))
    assert not report.passed and "cannot run" in report.summary


def test_export_is_quiet_and_leaves_the_model_as_it_was(
    trained: TrainingResult, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    classifier = from_its_weights(trained, CLASSES)
    classifier.train()
    classifier.model.features[1].eval()  # type: ignore[union-attr, index]
    modes = [part.training for part in classifier.modules()]
    export_onnx(classifier, tmp_path / "model.onnx")
    assert [part.training for part in classifier.modules()] == modes
    assert capfd.readouterr() == ("", "")


def test_golden_images_are_spread_over_the_split_with_black_and_white() -> None:
    asked = request().train
    golden = golden_images(asked, count=10)
    assert golden.shape == (12, 8, 8, 1)
    assert golden[-2].max() == 0 and golden[-1].min() == 255
    assert np.array_equal(golden[0], asked.source.gather(asked.rows[:1])[0])
