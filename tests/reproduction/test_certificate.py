"""A certificate says identical only of the same weights, and otherwise names what differs."""

from pathlib import Path
from typing import Any

import pytest

from tests.training.training_world import request
from visionops_assets.config.recipe import recipe_digest
from visionops_assets.reproduction.certificate import Certificate, certify, certify_missing, compare_inputs
from visionops_assets.training.code_digest import CodeState, describe_machine
from visionops_assets.training.provenance import CodeOrigin, DataOrigin, Provenance, installed_packages
from visionops_assets.training.train import train


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Provenance:
    return made(tmp_path_factory.mktemp("original"))


def made(workdir: Path, packages: dict[str, str] | None = None, **recipe: Any) -> Provenance:
    """Train, and record it as the challenger does."""
    asked = request(**recipe)
    result = train(asked, workdir)
    provenance = Provenance(
        project="shapes",
        task="classification",
        identity="e" * 64,
        data=DataOrigin(
            repository="shapes",
            annotations="shapes",
            commit="c" * 64,
            manifest_digest="d" * 64,
            classes=asked.classes,
            train_samples=len(asked.train),
            validation_samples=24,
        ),
        recipe=result.recipe,
        recipe_digest=recipe_digest(asked.recipe),
        code=CodeOrigin.of("a" * 64, CodeState("f" * 40, "")),
        packages=installed_packages(),
        hardware=describe_machine(),
        weights_sha256=result.weights_sha256,
        onnx_sha256=None,
        metrics=result.metrics,
    )
    return provenance.model_copy(update={"packages": {**provenance.packages, **(packages or {})}})


def test_a_training_from_the_recorded_recipe_is_identical(original: Provenance, tmp_path: Path) -> None:
    recorded = Provenance.from_json(original.to_json()).recipe.model_dump()
    certificate = certify(3, original, made(tmp_path, **recorded))
    assert certificate.result == "identical"
    assert certificate.first_difference is None
    assert "bit for bit" in certificate.words


def test_identical_weights_from_other_packages_are_identical_and_the_difference_is_listed(
    original: Provenance, tmp_path: Path
) -> None:
    certificate = certify(3, original, made(tmp_path, packages={"unrelated": "2"}))
    assert certificate.result == "identical"
    assert [one.words for one in certificate.differences] == ["versions: unrelated none → 2"]
    assert "1 recorded inputs differ" in certificate.words


def test_other_weights_name_the_first_input_that_differs(original: Provenance, tmp_path: Path) -> None:
    certificate = certify(3, original, made(tmp_path, packages={"unrelated": "2"}, seed=1))
    assert certificate.result == "differs" and not certificate.equivalent
    assert "the first input that differs is recipe: seed 0 → 1" in certificate.words
    assert [one.kind for one in certificate.differences] == ["recipe", "versions"]


def test_other_weights_from_the_same_inputs_say_that_something_is_not_recorded(original: Provenance) -> None:
    certificate = certify(3, original, original.model_copy(update={"weights_sha256": "0" * 64}))
    assert certificate.result == "differs"
    assert "not recorded" in certificate.words


@pytest.mark.parametrize(
    ("reproducibility", "interval", "equivalent"),
    [
        ("statistical", (0.0, 1.0), True),
        ("statistical", (-2.0, -1.0), False),
        ("statistical", None, False),
        ("bitwise", (0.0, 1.0), False),
    ],
)
def test_only_a_statistical_recipe_may_be_equivalent_and_only_within_its_interval(
    original: Provenance, reproducibility: str, interval: tuple[float, float] | None, equivalent: bool
) -> None:
    recipe = original.recipe.model_copy(update={"reproducibility": reproducibility})
    before = original.model_copy(update={"recipe": recipe})
    after = before.model_copy(update={"weights_sha256": "0" * 64})
    intervals = {} if interval is None else {"validation_accuracy": interval}
    certificate = certify(3, before, after, intervals)
    assert certificate.result == "differs"
    assert certificate.equivalent == equivalent


def test_a_metric_that_the_reproduction_lacks_is_not_equivalent(original: Provenance) -> None:
    recipe = original.recipe.model_copy(update={"reproducibility": "statistical"})
    before = original.model_copy(update={"recipe": recipe})
    after = before.model_copy(update={"weights_sha256": "0" * 64, "metrics": {}})
    assert not certify(3, before, after, {"validation_accuracy": (0.0, 1.0)}).equivalent


def test_inputs_are_compared_without_training(original: Provenance) -> None:
    same = compare_inputs(
        3, original, original.model_copy(update={"weights_sha256": "0" * 64, "metrics": {}})
    )
    assert (same.result, same.compared) == ("identical", "inputs")
    code = original.code.model_copy(update={"revision": "0" * 40})
    other = compare_inputs(3, original, original.model_copy(update={"code": code}))
    assert other.result == "differs"
    assert "code: revision" in other.words


def test_a_deleted_commit_is_the_difference(original: Provenance) -> None:
    certificate = certify_missing(3, original, "data", "commit", original.data.commit)
    assert certificate.result == "differs"
    assert certificate.words == (
        "nothing was trained: the first input that differs is data: commit cccccccccccc → missing"
    )


def test_a_certificate_survives_its_file_and_reads_as_a_page(original: Provenance, tmp_path: Path) -> None:
    certificate = certify(3, original, made(tmp_path, seed=1))
    assert Certificate.from_json(certificate.to_json()) == certificate
    page = certificate.to_page().to_text()
    assert "Reproduction of shapes version 3: differs" in page
    assert "recipe  seed " in page
    assert original.weights_sha256 in page
    assert "validation_accuracy" in page
