"""What a training learns, accepts, refuses and leaves behind."""

import dataclasses
import hashlib
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_models import PlainNet
from training_world import CLASSES, pictures, request, train_here

from tests.finished_weights import from_its_weights
from visionops.bug_report import is_bug
from visionops_assets.common.errors import ModelError, TrainingError, WeightsError
from visionops_assets.config.recipe import ModelSpec
from visionops_assets.training.batches import LabelledImages, channel_statistics
from visionops_assets.training.determinism import is_readable
from visionops_assets.training.model_files import save_weights
from visionops_assets.training.models import build_model
from visionops_assets.training.provenance import EpochReport
from visionops_assets.training.train import TrainingResult, train

EXAMPLES = Path(__file__).parents[2] / "examples"
LEARNING: dict[str, Any] = {
    "epochs": 12,
    "augmentations": [],
    "model": {"init_args": {"width": 8, "dropout": 0.1}},
}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_default_model_learns_grey_and_colour_pictures(channels: int, workdir: Path) -> None:
    result = train(request(channels=channels, **LEARNING), workdir)
    assert result.metrics["validation_accuracy"] > 0.9
    assert result.history[-1].train_loss < result.history[0].train_loss


def test_the_default_model_takes_images_of_other_sizes(workdir: Path) -> None:
    asked = request(epochs=1, augmentations=[], input={"height": 45, "width": 70, "channels": 3})
    random = np.random.default_rng(0)

    class Noise:
        def gather(self, rows: np.ndarray, /) -> np.ndarray:
            return random.integers(0, 256, (len(rows), 45, 70, 3), dtype=np.uint8)

    noise = LabelledImages(Noise(), asked.train.rows, asked.train.labels)
    result = train(dataclasses.replace(asked, train=noise, validation=None), workdir)
    probabilities, embedding = result.shipped(torch.zeros(5, 45, 70, 3, dtype=torch.uint8))
    assert probabilities.shape == (5, 3) and embedding.shape == (5, 16)


def test_the_example_of_a_model_of_ones_own_learns(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "own_model"))
    result = train_here(workdir, epochs=6, model={"class_path": "own_model.ResidualNet"})
    assert result.metrics["validation_accuracy"] > 0.9


@pytest.mark.parametrize(
    "optimiser", [{"name": "sgd", "momentum": 0.9, "schedule": "cosine"}, {"schedule": "none"}]
)
def test_every_declared_optimiser_and_schedule_trains(optimiser: dict[str, Any], workdir: Path) -> None:
    result = train_here(workdir, epochs=2, optimiser={"lr": 0.01, **optimiser})
    first, last = result.history[0].learning_rate, result.history[-1].learning_rate
    assert (last == first) == (optimiser["schedule"] == "none")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PlainNet", "WithEverything", "OwnLightning", "a_function"])
def test_a_foreign_model_trains_and_decides(name: str, workdir: Path) -> None:
    result = train_here(
        workdir,
        epochs=25,
        augmentations=[],
        optimiser={"lr": 0.02},
        model={"class_path": f"foreign_models.{name}"},
    )
    assert result.metrics["validation_accuracy"] > 0.9
    assert result.own_training == (name == "OwnLightning")
    probabilities, _ = result.shipped(torch.zeros(2, 8, 8, 1, dtype=torch.uint8))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"class_path": "no_such_package.Net"}, "cannot import 'no_such_package'"),
        ({"class_path": "foreign_models.Absent"}, "has no 'Absent'"),
        ({"class_path": "foreign_models.no_model"}, "expected an nn.Module"),
        ({"class_path": "foreign_models.PlainNet", "init_args": {"depth": 3}}, "init_args do not fit"),
        ({"class_path": "foreign_models.WrongWidth"}, r"shape \(2, 2\) for 2 images, expected \(2, 3\)"),
        ({"class_path": "foreign_models.HalfLightning"}, "without configure_optimizers"),
        ({"init_args": {"dropout": 2}}, "init_args do not fit"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_the_reason(
    model: dict[str, Any], message: str, workdir: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        train_here(workdir, model=model)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("ForgetsInTraining", r"fails in loss \(foreign_models.py, line \d+\): KeyError: 'forgotten'"),
        ("ForgetsWhenMade", r"fails in __init__ \(foreign_models.py, line \d+\): KeyError: 'forgotten'"),
        ("ForgetsInForward", r"images of shape \(2, 1, 8, 8\) .*KeyError: 'forgotten'"),
        ("OwnStepForgets", r"fails in training_step \(foreign_models.py, line \d+\): KeyError: 'forgotten'"),
    ],
)
def test_what_fails_in_code_of_ones_own_is_no_bug_of_ours(model: str, says: str, workdir: Path) -> None:
    with pytest.raises(ModelError, match=says) as raised:
        train_here(workdir, model={"class_path": f"foreign_models.{model}"})
    assert isinstance(raised.value.__cause__, KeyError), "the traceback is kept"
    assert not is_bug(raised.value)


def test_a_module_that_cannot_be_imported_is_named(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workdir.parent / "broken_package.py").write_text("{}['forgotten']\n")
    monkeypatch.syspath_prepend(str(workdir.parent))
    with pytest.raises(ModelError, match="importing 'broken_package' fails: KeyError: 'forgotten'"):
        train_here(workdir, model={"class_path": "broken_package.Net"})


def test_a_model_for_another_image_size_is_refused_with_the_reason(workdir: Path) -> None:
    size = {"height": 12, "width": 12, "channels": 1}
    with pytest.raises(ModelError, match=r"PlainNet fails on images of shape \(2, 1, 12, 12\)"):
        train_here(workdir, model={"class_path": "foreign_models.PlainNet"}, input=size)


def test_a_loss_that_is_not_a_number_stops_with_a_reason(workdir: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"diverged in epoch 1 of 4: the loss is nan.*Lower optimiser\.lr"
    ):
        train_here(workdir, model={"class_path": "foreign_models.DividesByZero"})
    assert not (workdir / "weights.safetensors").exists()


def test_a_class_without_training_samples_is_named(workdir: Path) -> None:
    asked = request()
    kept = asked.train.labels != 1
    train_images = LabelledImages(asked.train.source, asked.train.rows[kept], asked.train.labels[kept])
    with pytest.raises(TrainingError, match=r"no training sample of dot: .* Import a batch"):
        train(dataclasses.replace(asked, train=train_images), workdir)


def test_labels_beyond_the_classes_are_refused(workdir: Path) -> None:
    with pytest.raises(TrainingError, match=r"train: labels must be 0\.\.1"):
        train(dataclasses.replace(request(), classes=("bar", "dot")), workdir)


def test_training_without_a_validation_split_reports_none(workdir: Path) -> None:
    result = train(dataclasses.replace(request(), validation=None), workdir)
    assert result.history[-1].validation_loss is None
    assert set(result.metrics) == {"train_loss"}


def test_each_epoch_is_reported_once_with_its_numbers(workdir: Path) -> None:
    seen: list[EpochReport] = []
    result = train(request(), workdir, seen.append)
    assert [report.epoch for report in seen] == [1, 2, 3, 4]
    assert tuple(seen) == result.history


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ConnectionError])
def test_an_interruption_passes_through_and_training_goes_on_later(
    interruption: type[BaseException], workdir: Path, trained: TrainingResult
) -> None:
    def interrupt(report: EpochReport) -> None:
        if report.epoch == 3:
            raise interruption

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(interruption):
        train(request(), workdir, interrupt)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    result = train(request(), workdir)
    assert result.weights_sha256 == trained.weights_sha256
    assert [report.restored for report in result.history] == [True, True, False, False]


def test_training_is_quiet_and_leaves_only_its_own_files(
    workdir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_here(workdir)
    assert capfd.readouterr() == ("", "")
    assert sorted(path.suffix for path in workdir.iterdir()) == [".ckpt", ".safetensors"]
    assert list(tmp_path.iterdir()) == [workdir]


def test_normalisation_is_measured_exactly_and_shipped_with_the_weights(trained: TrainingResult) -> None:
    asked = request()
    pixels = asked.train.source.gather(asked.train.rows) / 255
    mean, std = channel_statistics(asked.train)
    assert mean[0] == pytest.approx(pixels.mean(), abs=1e-12)
    assert std[0] == pytest.approx(pixels.std(), abs=1e-12)
    assert trained.recipe.input.mean == mean
    assert trained.shipped.mean.tolist() == pytest.approx(list(mean))


def test_constant_images_do_not_divide_by_zero() -> None:
    source, labels = pictures(6)
    source.pixels[:] = 7
    assert channel_statistics(LabelledImages(source, np.arange(6), labels))[1] == (1.0,)


def test_finished_weights_load_into_the_same_classifier(trained: TrainingResult) -> None:
    loaded = from_its_weights(trained, CLASSES)
    images = torch.from_numpy(request().train.source.gather(np.arange(9)))
    with torch.no_grad():
        for found, expected in zip(loaded(images), trained.shipped(images), strict=True):
            assert torch.equal(found, expected)


def test_training_starts_from_given_weights_and_says_what_stayed_fresh(workdir: Path, tmp_path: Path) -> None:
    spec = ModelSpec(class_path="foreign_models.PlainNet")
    pretrained = build_model(spec, ("a", "b"), request().recipe.input)
    assert isinstance(pretrained, PlainNet)
    given = tmp_path / "given.safetensors"
    digest = save_weights(pretrained, given)
    start = {"uri": "file:given.safetensors", "sha256": digest, "licence": "MIT"}
    asked = request(
        epochs=1,
        optimiser={"lr": 1e-9, "weight_decay": 0, "schedule": "none"},
        model={"class_path": "foreign_models.PlainNet", "init_weights": start},
    )
    result = train(dataclasses.replace(asked, init_weights=given), workdir)
    assert result.start is not None
    assert result.start.head == ("out.bias", "out.weight") and result.start.missing == ()
    torch.testing.assert_close(
        result.shipped.model.state_dict()["convolution.weight"], pretrained.convolution.weight.detach()
    )


def test_given_weights_of_another_digest_are_refused(workdir: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.safetensors"
    given.write_bytes(b"something else")
    start = {
        "uri": "file:given.safetensors",
        "sha256": hashlib.sha256(b"expected").hexdigest(),
        "licence": "MIT",
    }
    asked = request(model={"class_path": "foreign_models.PlainNet", "init_weights": start})
    with pytest.raises(WeightsError, match="were altered"):
        train(dataclasses.replace(asked, init_weights=given), workdir)


class _Ran:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_checkpoint_that_would_run_code_is_as_good_as_none(tmp_path: Path) -> None:
    checkpoint = tmp_path / "altered.ckpt"
    torch.save({"state_dict": {}, "loops": _Ran(tmp_path / "trace")}, checkpoint)
    assert not is_readable(checkpoint)
    assert not (tmp_path / "trace").exists()
    torch.save({"state_dict": {"weight": torch.zeros(3)}, "epoch": 1}, checkpoint)
    assert is_readable(checkpoint)
