"""A wrong recipe names its field; an unchanged one keeps its digest."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from visionops_assets.config.recipe import Recipe, recipe_digest, resolve

SIZE = {"height": 8, "width": 8, "channels": 1}


def recipe(**fields: Any) -> Recipe:
    return Recipe.model_validate({"input": SIZE, **fields})


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"epoch": 3}, "epoch"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": "many"}, "epochs"),
        ({"batch_size": -1}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"threads": 0}, "threads"),
        ({"precision": "fp8"}, "precision"),
        ({"input": {**SIZE, "channels": 2}}, "input.channels"),
        ({"input": {**SIZE, "resize": "crop"}}, "input.resize"),
        ({"input": {**SIZE, "mean": [0.5]}}, "input"),
        ({"input": {**SIZE, "mean": [0.5, 0.5], "std": [1, 1]}}, "input"),
        ({"input": {**SIZE, "mean": [0.5], "std": [0]}}, "input.std.0"),
        ({"model": {"class_path": "NoModule"}}, "model.class_path"),
        ({"model": {"class_path": "a.b c"}}, "model.class_path"),
        (
            {"model": {"init_weights": {"uri": "x", "sha256": "abc", "licence": "MIT"}}},
            "model.init_weights.sha256",
        ),
        ({"model": {"init_weights": {"uri": "x", "sha256": "0" * 64}}}, "model.init_weights.licence"),
        ({"optimiser": {"name": "lion"}}, "optimiser.name"),
        ({"optimiser": {"lr": 0}}, "optimiser.lr"),
        ({"optimiser": {"lr": float("nan")}}, "optimiser.lr"),
        ({"optimiser": {"momentum": 0.9}}, "optimiser"),
        ({"augmentations": [{"name": "shift", "degrees": 3}]}, "augmentations.0.shift"),
        ({"augmentations": [{"name": "solarise"}]}, "augmentations.0"),
        ({"augmentations": [{"name": "noise", "sigma": 2}]}, "augmentations.0.noise.sigma"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        recipe(**fields)
    places = [".".join(str(part) for part in error["loc"]) for error in refused.value.errors()]
    assert any(found.startswith(place) for found in places), places


def test_the_digest_does_not_depend_on_order_or_on_stating_defaults() -> None:
    assert recipe_digest(recipe(epochs=20, seed=0)) == recipe_digest(recipe(seed=0))
    assert recipe_digest(recipe(seed=0, epochs=7)) == recipe_digest(recipe(epochs=7, seed=0))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 21},
        {"seed": 1},
        {"threads": 2},
        {"optimiser": {"lr": 0.001}},
        {"model": {"init_args": {"width": 8}}},
        {"augmentations": [{"name": "vertical_flip"}]},
    ],
)
def test_any_change_of_the_recipe_changes_its_digest(change: dict[str, Any]) -> None:
    assert recipe_digest(recipe(**change)) != recipe_digest(recipe())


def test_a_name_stands_for_its_adapter_and_is_all_that_is_written() -> None:
    named = recipe(model={"name": "timm/resnet18"})
    assert named.model.class_path.startswith("visionops_assets.training.catalogue.")
    written = named.model_dump(mode="json")
    assert written["model"] == {"name": "timm/resnet18", "init_args": {}, "init_weights": None}
    assert Recipe.model_validate(written) == named
    assert Recipe.model_validate_json(named.model_dump_json()) == named


def test_what_came_later_is_not_written_where_it_has_its_default() -> None:
    written = recipe().model_dump(mode="json")
    assert set(written["model"]) == {"class_path", "init_args", "init_weights"}
    assert set(written) == {
        *("input", "model", "optimiser", "epochs", "batch_size", "augmentations"),
        *("precision", "seed", "threads", "reproducibility"),
    }
    assert recipe_digest(recipe(model={"name": None})) == recipe_digest(recipe())
    assert recipe_digest(recipe(model={"name": "timm/resnet18"})) != recipe_digest(recipe())


def test_automatic_precision_follows_the_machine_and_a_resolved_recipe_does_not() -> None:
    assert resolve(recipe(), fast_bf16=True).precision == "bf16-mixed"
    assert resolve(recipe(), fast_bf16=False).precision == "32-true"
    resolved = resolve(recipe(), fast_bf16=True)
    assert resolve(resolved, fast_bf16=False) == resolved


def test_the_project_file_can_be_read_without_loading_torch() -> None:
    light = ("config.project", "config.recipe", "training.code_digest", "training.provenance")
    names = ", ".join(f"visionops_assets.{name}" for name in (*light, "reproduction.certificate"))
    heavy = ("torch", "lightning", "matplotlib", "onnx", "onnxruntime")
    code = f"import sys, {names}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
