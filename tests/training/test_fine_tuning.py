"""What a recipe's fine-tuning does: each part has its effect, and is refused where it would have none."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_models import Flat, PlainNet
from torch import Tensor
from training_world import CLASSES, Processes, request, train_here

from tests.world import RECIPE, shapes_project
from visionops_assets.common.errors import TrainingError
from visionops_assets.config.recipe import Optimiser, Recipe, recipe_digest
from visionops_assets.config.training_rules import FineTuning, Loss
from visionops_assets.training.batches import EpochOrder, LabelledImages
from visionops_assets.training.classification import Classification
from visionops_assets.training.fine_tuning import rated_parameters, warmed_up, weighed_loss
from visionops_assets.training.mixing import mixed, mosaic_boxes, mosaics
from visionops_assets.training.model_files import save_weights
from visionops_assets.training.models import Shipped
from visionops_assets.training.train import TrainingResult, train
from visionops_assets.training.training_task import Validation, training_task

FLAT = {"class_path": "foreign_models.Flat"}
PLAIN = {"augmentations": [], "precision": "32-true", "model": FLAT}
SGD: dict[str, Any] = {"name": "sgd", "lr": 0.05, "weight_decay": 0, "schedule": "none"}
# Each with whatever else it needs.
EVERYTHING: dict[str, Any] = {
    "optimiser": {"lr": 0.01, "schedule": "cosine", "warmup_epochs": 1, "clip_norm": 1.0, "accumulate": 2},
    "fine_tuning": {"layer_decay": 0.8, "head_multiplier": 5},
    "loss": {"label_smoothing": 0.1, "class_weights": "balanced"},
    "sampler": "balanced",
    "averaging": {"name": "ema", "decay": 0.9},
    "augmentations": [
        {"name": "random_resized_crop"},
        {"name": "colour_jitter", "saturation": 0, "hue": 0},
        {"name": "cutmix"},
    ],
}


class Watching(Classification):
    """Keeps what validation saw after each epoch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def validate(self, shipped: Shipped, images: LabelledImages) -> Validation:
        self.seen.append({name: each.clone() for name, each in shipped.model.state_dict().items()})
        return super().validate(shipped, images)


def watched(workdir: Path, **recipe: Any) -> tuple[TrainingResult, list[dict[str, Tensor]]]:
    """A training, and the weights that validation saw after each epoch."""
    task = Watching()
    return train(dataclasses.replace(request(**recipe), task=task), workdir), task.seen


def test_what_is_not_asked_for_is_not_written_and_changes_no_digest() -> None:
    plain = request().recipe
    written = plain.model_dump(mode="json")
    assert not {"fine_tuning", "loss", "sampler", "averaging"} & set(written)
    assert set(written["optimiser"]) == {"name", "lr", "weight_decay", "momentum", "schedule"}
    said = {**written, "fine_tuning": {"freeze_epochs": 0}, "sampler": "shuffled", "averaging": None}
    assert recipe_digest(Recipe.model_validate(said)) == recipe_digest(plain)
    assert (
        Recipe.model_validate(request(**EVERYTHING).recipe.model_dump(mode="json"))
        == request(**EVERYTHING).recipe
    )


def test_all_of_it_together_is_the_same_bits_by_any_workers_and_after_a_kill(
    processes: Processes, tmp_path: Path
) -> None:
    expected = processes.train(tmp_path / "undisturbed", loader_workers=2, **EVERYTHING)
    processes.train_until_killed(tmp_path / "killed", kill_in_epoch=3, **EVERYTHING)
    assert processes.train_with_history(tmp_path / "killed", **EVERYTHING) == (expected, [1, 2])
    # Between the last checkpoint and the weights.
    processes.train_until_killed(tmp_path / "last", kill_in_epoch=5, kill_while_saving=True, **EVERYTHING)
    assert processes.train(tmp_path / "last", **EVERYTHING) == expected


def test_given_weights_stay_as_they_are_until_they_thaw(workdir: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.safetensors"
    digest = save_weights(PlainNet(2, 1), given)
    start = {"uri": "given.safetensors", "sha256": digest, "licence": "MIT"}
    recipe = {"epochs": 3, "model": {"class_path": "foreign_models.PlainNet", "init_weights": start}}
    asked = request(**{**PLAIN, **recipe}, fine_tuning={"freeze_epochs": 2})
    task = Watching()
    train(dataclasses.replace(asked, init_weights=given, task=task), workdir)
    first, second, third = task.seen
    kept, learnt = "convolution.weight", "out.weight"
    assert torch.equal(first[kept], second[kept]) and not torch.equal(second[kept], third[kept])
    assert not torch.equal(first[learnt], second[learnt])
    with pytest.raises(ValueError, match=r"freeze_epochs keeps given weights: name model\.init_weights"):
        request(fine_tuning={"freeze_epochs": 1})
    with pytest.raises(ValueError, match="nothing would thaw in 2 epochs"):
        request(epochs=2, fine_tuning={"freeze_epochs": 2})


@pytest.mark.usefixtures("model_libraries")
def test_layers_learn_slower_the_further_they_are_from_the_head() -> None:
    from visionops_assets.training.catalogue.timm_classifier import TimmClassifier

    optimiser = Optimiser(lr=1.0)
    for model, first, head in (
        (PlainNet(3, 1), "convolution.weight", frozenset({"out.weight", "out.bias"})),
        (
            TimmClassifier("test_resnet", 3, request(input={"height": 32, "width": 32}).recipe.input),
            "net.conv1.0.weight",
            frozenset({"net.fc.weight", "net.fc.bias"}),
        ),
    ):
        tuning = FineTuning(layer_decay=0.5, head_multiplier=3)
        groups = rated_parameters(model, optimiser, tuning, head)
        rates = {id(each): group["lr"] for group in groups for each in group["params"]}
        named = {name: rates[id(each)] for name, each in model.named_parameters()}
        assert len(rates) == len(list(model.parameters()))
        assert {named[name] for name in head} == {3.0} and named[first] == min(rates.values()) <= 0.5**2
        assert sorted(group["lr"] for group in groups) == [group["lr"] for group in groups]
    assert len(rated_parameters(model, optimiser, FineTuning(), head)) == 1


def test_the_rate_rises_and_then_falls_as_declared(workdir: Path) -> None:
    shares = [warmed_up("cosine", 4, 20)(step) for step in range(21)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and shares[20] == pytest.approx(0)
    assert all(later < earlier for earlier, later in itertools.pairwise(shares[4:]))
    assert warmed_up("none", 4, 20)(19) == 1.0
    result = train_here(workdir, epochs=4, **{**PLAIN, "optimiser": {**SGD, "warmup_epochs": 2}})
    rates = [report.learning_rate for report in result.history]
    assert rates[0] < rates[1] <= rates[2] == rates[3] == SGD["lr"]
    with pytest.raises(ValueError, match="onecycle begins with a rise of its own"):
        request(optimiser={"warmup_epochs": 1})


def test_gradients_are_clipped_and_accumulated(tmp_path: Path) -> None:
    def moved(name: str, **optimiser: Any) -> Tensor:
        _, seen = watched(tmp_path / name, epochs=2, **{**PLAIN, "optimiser": {**SGD, **optimiser}})
        return seen[1]["out.weight"] - seen[0]["out.weight"]

    free, clipped = moved("free"), moved("clipped", clip_norm=1e-4)
    # Four steps of the rate times the norm at most.
    assert clipped.norm() <= 4 * SGD["lr"] * 1e-4 * 1.01 < free.norm()
    # Four batches of 15 in one step are one batch of 60.
    whole = train_here(tmp_path / "whole", epochs=2, **{**PLAIN, "optimiser": SGD, "batch_size": 60})
    parts = train_here(tmp_path / "parts", epochs=2, **{**PLAIN, "optimiser": {**SGD, "accumulate": 4}})
    torch.testing.assert_close(
        parts.shipped.model.state_dict()["out.weight"], whole.shipped.model.state_dict()["out.weight"]
    )


def test_validation_sees_the_average_and_it_ships(tmp_path: Path) -> None:
    _, raw = watched(tmp_path / "raw", **PLAIN)
    averaging = {"name": "swa", "from_epoch": 2}
    result, seen = watched(tmp_path / "swa", averaging=averaging, **PLAIN)
    assert torch.equal(seen[0]["out.weight"], raw[0]["out.weight"]), "there is no average yet"
    mean = torch.stack([each["out.weight"] for each in raw[1:]]).mean(dim=0)
    torch.testing.assert_close(seen[3]["out.weight"], mean)
    assert torch.equal(result.shipped.model.state_dict()["out.weight"], seen[3]["out.weight"])

    result, seen = watched(tmp_path / "ema", averaging={"name": "ema", "decay": 0.99}, **PLAIN)
    assert torch.equal(result.shipped.model.state_dict()["out.weight"], seen[3]["out.weight"])
    far = [(raw[3]["out.weight"] - each["out.weight"]).norm() for each in (seen[3], raw[0])]
    assert 0 < far[0] < far[1]
    with pytest.raises(ValueError, match="from_epoch: there are 4 epochs"):
        request(averaging={"name": "swa", "from_epoch": 5})


def test_batch_norms_of_the_mean_have_the_statistics_that_the_mean_sees(tmp_path: Path) -> None:
    normed = {"class_path": "foreign_models.Normed"}
    recipe = {**PLAIN, "model": normed, "averaging": {"name": "swa", "from_epoch": 2}}
    result, seen = watched(tmp_path / "swa", **recipe)
    shipped, images = result.shipped, request(**recipe).train
    model: Any = shipped.model
    before = [norm.momentum for norm in model.modules() if isinstance(norm, torch.nn.BatchNorm2d)]
    assert before == [0.1], "as it was declared"
    pixels = torch.from_numpy(images.source.gather(images.rows))
    with torch.no_grad():
        batches = [model.conv(shipped.prepared(each)) for each in pixels.tensor_split(-(-len(pixels) // 16))]
    expected = torch.stack([each.mean(dim=(0, 2, 3)) for each in batches]).mean(dim=0)
    torch.testing.assert_close(model.norm.running_mean, expected)
    assert torch.equal(seen[-1]["norm.running_mean"], model.norm.running_mean), "validation saw what ships"
    again, _ = watched(tmp_path / "again", **recipe)
    assert again.weights_sha256 == result.weights_sha256


def test_the_loss_weighs_as_declared(workdir: Path) -> None:
    outputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 2, 2, 1, 0])
    logs = outputs.log_softmax(dim=1)
    smoothed = torch.nn.functional.one_hot(targets, 3) * 0.7 + 0.1
    loss = Loss(label_smoothing=0.3)
    assert weighed_loss(outputs, targets, loss) == pytest.approx(float(-(logs * smoothed).sum(dim=1).mean()))
    own = -logs[torch.arange(6), targets]
    weights = torch.tensor([1.0, 2.0, 4.0])
    expected = (own * weights[targets]).sum() / weights[targets].sum()
    assert weighed_loss(outputs, targets, Loss(class_weights=(1, 2, 4))) == pytest.approx(float(expected))
    half = torch.stack([targets.float(), targets.roll(1).float(), torch.full((6,), 0.25)], dim=1)
    other = -logs[torch.arange(6), targets.roll(1)]
    assert weighed_loss(outputs, half, Loss()) == pytest.approx(float((0.25 * own + 0.75 * other).mean()))
    unmixed = torch.stack([targets.float(), targets.roll(1).float(), torch.ones(6)], dim=1)
    for loss in (Loss(), Loss(label_smoothing=0.2, class_weights=(1, 2, 4))):
        assert weighed_loss(outputs, unmixed, loss) == pytest.approx(
            float(weighed_loss(outputs, targets, loss))
        )

    asked = request(epochs=1, loss={"class_weights": "balanced"}, **PLAIN)
    kept = np.flatnonzero((asked.train.labels != 1) | (np.arange(len(asked.train)) < 20))
    few = LabelledImages(asked.train.source, asked.train.rows[kept], asked.train.labels[kept])
    result = train(dataclasses.replace(asked, train=few), workdir)
    found = result.recipe.loss.class_weights
    counts = np.bincount(few.labels)
    assert isinstance(found, tuple) and np.allclose(np.array(found) * counts, len(few) / 3), "it is recorded"


def test_a_balanced_epoch_shows_each_class_alike() -> None:
    labels = np.array([0] * 50 + [1] * 8 + [2] * 2)
    order = EpochOrder(60, 16, seed=3, balanced=labels)
    first = np.concatenate(list(order))
    order.epoch = 1
    second = np.concatenate(list(order))
    for shown in (first, second):
        assert np.bincount(labels[shown]).tolist() == [20, 20, 20]
    assert len(np.unique(first[labels[first] == 0])) == 20, "none twice while others wait"
    assert first.tolist() != second.tolist()


def test_images_are_mixed_with_the_next_and_their_classes_alike() -> None:
    images = torch.arange(8.0)[:, None, None, None].expand(8, 3, 10, 14) / 8
    targets = torch.arange(8) % 3
    draw: dict[str, Any] = {"seed": 1, "epoch": 2, "samples": np.arange(20, 28)}
    recipe = request(channels=3, augmentations=[{"name": "mixup", "alpha": 1}]).recipe
    made, said = mixed(images, targets, recipe.augmentations, **draw)
    torch.testing.assert_close(said[:, 0].long(), targets)
    torch.testing.assert_close(said[:, 1].long(), targets.roll(-1))
    share = said[:, 2][:, None, None, None]
    torch.testing.assert_close(made, images * share + images.roll(-1, 0) * (1 - share))
    assert len(said[:, 2].unique()) == 8

    recipe = request(channels=3, augmentations=[{"name": "cutmix", "probability": 0.5}]).recipe
    made, said = mixed(images, targets, recipe.augmentations, **draw)
    kept = (made == images).float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(said[:, 2], kept)
    assert 0 < int((kept < 1).sum()) < 8
    assert all(set(one.unique().tolist()) <= {at / 8, (at + 1) % 8 / 8} for at, one in enumerate(made))
    again, _ = mixed(images, targets, recipe.augmentations, **{**draw, "epoch": 3})
    assert not torch.equal(again, made)


def test_a_mosaic_has_the_boxes_of_four_images() -> None:
    images, targets = torch.zeros(5, 1, 32, 48), torch.full((5, 2, 5), -1.0)
    for number in range(5):
        images[number, :, 8:16, 12 : 20 + number] = 1.0
        targets[number, 0] = torch.tensor([12, 8, 8 + number, 8, number % 2])
    recipe = Recipe.model_validate(
        {
            "input": {"height": 32, "width": 48, "channels": 1},
            "augmentations": [{"name": "mosaic", "probability": 1}],
        }
    )
    draw: dict[str, Any] = {"seed": 1, "epoch": 0, "samples": np.arange(5)}
    made = mosaics(images, recipe.augmentations, **draw)
    boxes = mosaic_boxes(targets, recipe.augmentations, size=(32, 48), **draw)
    assert boxes.shape == (5, 8, 5) and made.shape == images.shape
    for image, found in zip(made[:, 0], boxes, strict=True):
        there = found[found[:, 4] >= 0]
        assert len(there) == 4
        inside = torch.zeros(32, 48)
        for left, top, width, height, _ in there.tolist():
            inside[round(top) : round(top + height), round(left) : round(left + width + 0.5)] = 1
        assert ((image > 0.6) <= (inside > 0)).all() and image.sum() == pytest.approx(
            float(there[:, 2:4].prod(1).sum())
        )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"model": {"class_path": "foreign_models.OwnLightning"}, "sampler": "balanced"},
            "sampler would be ignored",
        ),
        (
            {
                "model": {"class_path": "foreign_models.OwnLightning"},
                "optimiser": {"clip_norm": 1},
                "averaging": {"name": "ema"},
            },
            r"optimiser\.clip_norm, averaging would be ignored",
        ),
        (
            {"model": {"class_path": "foreign_models.OwnLightning"}, "augmentations": [{"name": "mixup"}]},
            "mixup would be ignored",
        ),
        (
            {
                "model": {"class_path": "foreign_models.WithEverything", "init_args": {"channels": 1}},
                "augmentations": [{"name": "cutmix"}],
                "loss": {"label_smoothing": 0.1},
            },
            r"WithEverything\.loss takes hard targets .*loss\.label_smoothing, cutmix cannot be",
        ),
        ({"augmentations": [{"name": "mosaic"}]}, "mosaic: four images in one have no one class"),
        ({"loss": {"class_weights": [1, 2]}}, r"class_weights: 2 for 3 classes"),
    ],
)
def test_what_would_have_no_effect_is_refused(asked: dict[str, Any], message: str, workdir: Path) -> None:
    asked.get("model", {}).pop("init_args", None) if "OwnLightning" in str(asked) else None
    with pytest.raises(TrainingError, match=message):
        train_here(workdir, **asked)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"augmentations": [{"name": "mixup"}, {"name": "cutmix"}]}, "mixup and cutmix both mix two images"),
        ({"augmentations": [{"name": "colour_jitter"}]}, "a grey image has no saturation and hue"),
        ({"averaging": {"name": "swa", "decay": 0.5}}, "decay belongs to ema"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        request(**recipe)


def test_boxes_take_no_mixed_classes() -> None:
    from visionops_assets.training.fine_tuning import refuse_what_does_not_fit

    recipe = request(augmentations=[{"name": "mixup"}], sampler="balanced").recipe
    with pytest.raises(TrainingError, match="sampler, mixup: this takes one class an image, not boxes"):
        refuse_what_does_not_fit(recipe, Flat(len(CLASSES), recipe.input), False, False)
    assert training_task("detection").score == "mAP50"


def test_weights_for_other_classes_are_refused_where_the_project_file_is_read() -> None:
    recipe = {**RECIPE, "loss": {"class_weights": [1, 2]}}
    with pytest.raises(ValueError, match=r"recipe\.loss\.class_weights: 2 for 3 classes; give one a class"):
        shapes_project(recipe=recipe)
