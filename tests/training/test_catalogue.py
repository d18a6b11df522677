"""Models by name: the table is what the libraries have, and what it calls tested trains, ships, and twice alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from catalogue_world import shapes, train_catalogued
from typer.testing import CliRunner

from tests.world import shapes_project
from visionops.cli.command_line import app
from visionops_assets.common.errors import ModelError
from visionops_assets.config.model_catalogue import catalogue
from visionops_assets.config.recipe import DEFAULT_MODEL, ModelSpec, Recipe
from visionops_assets.experiments.sweep import overridden
from visionops_assets.training.model_files import export_onnx, golden_images, parity
from visionops_assets.training.models import build_model, normalisation_of
from visionops_assets.training.train import TrainingResult

pytestmark = pytest.mark.usefixtures("model_libraries")
# Of the smallest input and the fewest objects that a family takes: what is shown is that it trains and ships.
SIDES = {"timm": 64, "torchvision": 64, "transformers": 64, "yolox": 64}
FEW: dict[str, dict[str, Any]] = {
    "timm": {},
    "torchvision": {"detections": 20},
    "transformers": {"queries": 20, "detections": 10, "denoising": 10},
    "yolox": {"detections": 20},
}
# One of each kind in `make test`, all others at stated counts.
QUICK = ("timm/test_resnet",)


def trained(name: str, workdir: Path) -> tuple[Any, TrainingResult]:
    family = name.partition("/")[0]
    side = 224 if name.startswith("timm/vit") else SIDES[family]
    return train_catalogued(name, workdir, side=side, init_args=FEW[family])


def test_the_table_says_of_each_model_what_the_libraries_say() -> None:
    from visionops_assets.training.catalogue.published import TESTED, names, published_model

    rows = catalogue()
    assert list(rows) == names(), "`python docs/model_table.py` writes it anew"
    assert [row for row in rows.values() if published_model(row.name, row.parameters) != row] == []
    assert {row.name for row in rows.values() if row.tested} == TESTED
    assert all(row.parameters for row in rows.values() if row.tested)


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/vit_tiny_patch16_224", "yolox/nano"])
def test_the_table_counts_parameters(name: str) -> None:
    from visionops_assets.training.catalogue.published import parameters_of

    assert catalogue()[name].parameters in (None, parameters_of(name))


def test_models_are_listed_for_people_and_programs() -> None:
    told = CliRunner().invoke(app, ["models", "--task", "detection"])
    assert told.exit_code == 0
    lines = told.output.splitlines()
    assert any(line.split()[0] == "yolox/nano" and "visionops[yolox]" in line for line in lines)
    assert not any(line.startswith("timm/") for line in lines) and "No segmentation" in lines[-1]
    listed = json.loads(CliRunner().invoke(app, ["models", "--json"]).output)
    assert {each["name"] for each in listed} == set(catalogue())
    assert CliRunner().invoke(app, ["models", "--task", "poses"]).exit_code != 0
    some = CliRunner().invoke(app, ["models", "ResNet18", "--json"])
    assert {"timm/resnet18", "timm/seresnet18"} <= {each["name"] for each in json.loads(some.output)}
    assert all("resnet18" in each["name"] for each in json.loads(some.output))
    tested = json.loads(
        CliRunner().invoke(app, ["models", "--tested", "--task", "detection", "--json"]).output
    )
    assert {each["name"] for each in tested} == {
        row.name for row in catalogue().values() if row.tested and row.task == "detection"
    }
    nothing = CliRunner().invoke(app, ["models", "resnet81"])
    assert "did you mean timm/resnet" in str(nothing.exception)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "timm/resnet81"}, "no model is called timm/resnet81; did you mean timm/resnet"),
        ({"name": "resnet18"}, "no model is called resnet18; did you mean timm/resnet18"),
        (
            {"name": "yolox/nano"},
            "is a model for detection, and this project's task is classification",
        ),
        ({"name": "timm/resnet18", "class_path": "my.Net"}, "name and class_path both say which model"),
        ({"name": "timm/resnet18", "class_path": DEFAULT_MODEL}, "name and class_path both say which model"),
        (
            {"name": "timm/resnet18", "init_args": {"name": "resnet50"}},
            r"init_args\.name: `name` says which model",
        ),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused_with_what_could(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shapes_project(recipe={"input": {"height": 8, "width": 8}, "model": model})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "yolox/nano"}, "yolox/nano takes sides that 32 divides, got 48 × 40"),
        ({"name": "torchvision/fcos_resnet18_fpn", "init_args": {"overlaps": 0.4}}, "did you mean overlap"),
    ],
)
def test_what_a_model_cannot_take_is_said_before_it_is_trained(model: dict[str, Any], message: str) -> None:
    boxes = {"input": {"height": 48, "width": 40}, "model": model}
    with pytest.raises(ValueError, match=message):
        shapes_project(task="detection", recipe=boxes)
    fine = {"name": "torchvision/fcos_resnet18_fpn", "init_args": {"overlap": 0.4}}
    assert shapes_project(task="detection", recipe={**boxes, "model": fine}).recipe.model.name == fine["name"]


def test_a_sweep_puts_a_name_in_the_place_of_a_class_path_and_the_other_way_round() -> None:
    recipe = Recipe.model_validate({"input": {"height": 8, "width": 8}, "model": {"class_path": "my.Net"}})
    named = overridden(recipe, {"model.name": "timm/resnet18"}, "--set")
    assert named.model.shown == "timm/resnet18"
    assert overridden(named, {"model.class_path": "my.Net"}, "--set").model == recipe.model


@pytest.mark.parametrize("option", ["pretrained", "in_chans", "checkpoint_path"])
def test_what_is_not_the_users_to_say_of_a_backbone_is_refused(option: str) -> None:
    spec = ModelSpec(name="timm/test_resnet", init_args={option: True})
    recipe = Recipe.model_validate({"input": {"height": 32, "width": 32}})
    with pytest.raises(ModelError, match=f"timm/test_resnet: {option} is not given to timm"):
        build_model(spec, ("a", "b"), recipe.input)


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/vit_tiny_patch16_224", "timm/mobilenetv3_small_050"])
def test_an_argument_that_a_backbone_does_not_take_is_told_with_what_was_meant(name: str) -> None:
    spec = ModelSpec(name=name, init_args={"drop_rat": 0.1})
    recipe = Recipe.model_validate({"input": {"height": 224, "width": 224}})
    with pytest.raises(ModelError, match=rf"do not fit {name}: .*'drop_rat'; did you mean drop_rate\b"):
        build_model(spec, ("a", "b"), recipe.input)


def test_mean_and_deviation_are_those_of_published_weights() -> None:
    named = ModelSpec(name="timm/resnet18")
    assert normalisation_of(named, 3) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    (grey,), _ = normalisation_of(named, 1) or ((), ())
    assert grey == pytest.approx(0.449)
    assert normalisation_of(ModelSpec(), 3) is None


def test_suppression_keeps_what_the_greedy_rule_keeps() -> None:
    import torchvision

    from visionops_assets.training.catalogue.suppression import suppressed

    generator = torch.Generator().manual_seed(0)
    left_top = torch.rand(8, 60, 2, generator=generator) * 60
    corners = torch.cat([left_top, left_top + 10 + torch.rand(8, 60, 2, generator=generator) * 30], dim=2)
    scores = torch.rand(8, 60, 2, generator=generator)
    boxes, kept, labels = suppressed(corners, scores, detections=60, overlap=0.5)
    for image in range(8):
        sides = torch.cat([boxes[image, :, :2], boxes[image, :, :2] + boxes[image, :, 2:]], dim=1)
        best = scores[image].flatten().topk(60).values
        expected = torchvision.ops.batched_nms(sides, best, labels[image], 0.5)
        assert sorted(expected.tolist()) == kept[image].nonzero().flatten().tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(
            pytest.param(row.name, marks=pytest.mark.stated)
            for row in catalogue().values()
            if row.tested and row.name not in QUICK
        ),
    ],
)
def test_a_tested_model_trains_and_ships_for_any_number_of_images(name: str, tmp_path: Path) -> None:
    request, result = trained(name, tmp_path)
    assert result.recipe.input.mean is not None
    file = tmp_path / "model.onnx"
    export_onnx(result.shipped, file)
    report = parity(file, result.shipped, golden_images(request.train, 14))
    assert report.passed and report.largest_embedding_difference < 1e-3, report.summary
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    side = result.recipe.input.height
    for count in (1, 7):
        pixels, _ = shapes(count, side, seed=count)
        found = session.run(None, {"images": pixels})
        assert all(len(each) == count and np.isfinite(each).all() for each in found)


@pytest.mark.parametrize(
    "name",
    [
        "timm/test_resnet",
        *(
            pytest.param(name, marks=pytest.mark.stated)
            for name in (
                "torchvision/fcos_resnet18_fpn",
                "torchvision/retinanet_resnet18_fpn",
                "torchvision/ssdlite320_mobilenet_v3_large",
                "transformers/dfine_tiny",
                "yolox/nano",
            )
        ),
    ],
)
def test_the_same_request_gives_the_same_weights(name: str, tmp_path: Path) -> None:
    _, once = trained(name, tmp_path / "once")
    _, again = trained(name, tmp_path / "again")
    assert once.weights_sha256 == again.weights_sha256
