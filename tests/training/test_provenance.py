"""Provenance survives its file, and two of them say in which input they differ."""

from typing import Any

import pytest
from training_world import request

from visionops_assets.config.recipe import Recipe, recipe_digest, resolve
from visionops_assets.training.code_digest import CodeState, describe_machine
from visionops_assets.training.provenance import (
    CodeOrigin,
    DataOrigin,
    Provenance,
    compare_provenance,
    installed_packages,
)

COMMIT, MANIFEST = "c" * 64, "d" * 64


def provenance(recipe: Recipe | None = None, **changes: Any) -> Provenance:
    declared = recipe or request().recipe
    made = Provenance(
        project="shapes",
        task="classification",
        identity="e" * 64,
        data=DataOrigin(
            repository="shapes",
            annotations="shapes",
            commit=COMMIT,
            manifest_digest=MANIFEST,
            classes=("bar", "dot"),
            train_samples=60,
            validation_samples=24,
        ),
        recipe=resolve(declared, fast_bf16=False),
        recipe_digest=recipe_digest(declared),
        code=CodeOrigin.of("a" * 64, CodeState("f" * 40, "")),
        packages=installed_packages(),
        hardware=describe_machine(),
        weights_sha256="1" * 64,
        onnx_sha256="2" * 64,
        metrics={"validation_accuracy": 0.9},
    )
    return made.model_copy(update=changes)


def test_provenance_survives_its_file() -> None:
    made = provenance()
    assert Provenance.from_json(made.to_json()) == made


def test_packages_and_hardware_are_recorded() -> None:
    made = provenance()
    assert {"python", "torch", "lightning", "numpy"} <= made.packages.keys()
    assert {"machine", "processor", "aten_cpu_capability", "onednn_isa", "device"} == made.hardware.keys() - {
        "system"
    }


def test_equal_provenances_do_not_differ_whatever_came_out() -> None:
    assert compare_provenance(provenance(), provenance(weights_sha256="3" * 64, metrics={})) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"commit": "0" * 64}}, "data: commit cccccccccccc → 000000000000"),
        ({"data": {"train_samples": 61}}, "data: training samples 60 → 61"),
        ({"data": {"classes": ("bar",)}}, "data: classes ('bar', 'dot') → ('bar',)"),
        ({"code": {"digest": "0" * 64}}, "code: sources aaaaaaaaaaaa → 000000000000"),
        ({"code": {"uncommitted_sha256": "0" * 64}}, "code: uncommitted change none → 000000000000"),
        ({"packages": {"torch": "0.1"}}, "versions: torch 9 → 0.1"),
        ({"packages": {"added": "1"}}, "versions: added none → 1"),
        ({"hardware": {"aten_cpu_capability": "AVX2"}}, "hardware: aten cpu capability AVX512 → AVX2"),
    ],
)
def test_one_changed_input_is_the_one_difference(changes: dict[str, dict[str, Any]], words: str) -> None:
    before = provenance(packages={"torch": "9"}, hardware={"aten_cpu_capability": "AVX512"})
    content = before.model_dump()
    for part, fields in changes.items():
        content[part].update(fields)
    assert [
        difference.words for difference in compare_provenance(before, Provenance.model_validate(content))
    ] == [words]


def test_changed_recipe_fields_are_named_by_their_path() -> None:
    before = provenance(request().recipe)
    after = provenance(request(optimiser={"lr": 0.1}, epochs=9).recipe)
    assert [difference.words for difference in compare_provenance(before, after)] == [
        "recipe: optimiser.lr 0.003 → 0.1",
        "recipe: epochs 4 → 9",
    ]


def test_differences_come_in_the_order_in_which_they_explain() -> None:
    before = provenance(packages={"aaa": "1", "torch": "1"})
    content = before.model_dump()
    content["hardware"]["machine"] = "other"
    content["packages"] = {"aaa": "2", "torch": "2"}
    content["code"]["digest"] = "0" * 64
    content["recipe"]["seed"] = 5
    content["data"]["manifest_digest"] = "0" * 64
    found = compare_provenance(before, Provenance.model_validate(content))
    assert [(difference.kind, difference.name) for difference in found] == [
        ("data", "manifest"),
        ("recipe", "seed"),
        ("code", "sources"),
        ("versions", "torch"),
        ("versions", "aaa"),
        ("hardware", "machine"),
    ]
