"""A project file is validated field by field, and its errors say where and what."""

import re
from pathlib import Path

import pytest

from resources.home import ROOT
from visionops_assets.config.project import ProjectError, find_project, load_project, load_projects

GOOD = """
project: shop
repository: shop-images
annotations: shop
classes: [cat, dog]
recipe: {input: {height: 32, width: 32}}
"""
BOXES = "task: detection\nrecipe: {"


def write(folder: Path, text: str, name: str = "shop.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_projects_that_ship_are_valid():
    assert "digits" in [project.project for project in load_projects(ROOT / "projects")]


def test_a_file_with_only_the_required_fields_is_enough(tmp_path):
    project = load_project(write(tmp_path, GOOD))
    assert project.classes == ("cat", "dog")
    assert project.splits.shares().keys() == {"train", "val", "holdout"}


def test_numbers_are_taken_as_class_names(tmp_path):
    assert load_project(write(tmp_path, GOOD.replace("[cat, dog]", "[0, 1]"))).classes == ("0", "1")


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        (("project: shop", "project: My Shop"), "project", "pattern"),
        (("classes: [cat, dog]", "classes: [cat, cat]"), "the file", "distinct; given twice: cat"),
        (("classes: [cat, dog]", "classes: [cat]"), "classes", "at least 2"),
        (("repository: shop-images", ""), "repository", "is required"),
        (("height: 32", "height: tall"), "recipe.input.height", "valid integer"),
        (("recipe:", "colour: red\nrecipe:"), "colour", "is not a field"),
        (("recipe:", "captures: {share: 0.1}\nrecipe:"), "captures", "did you mean production.captures?"),
        (("recipe:", "splits: {train: 0.5}\nrecipe:"), "splits", "must be 1, not 0.9"),
        (
            ("recipe:", "gate: {floors: {overall: 2}}\nrecipe:"),
            "gate.floors.overall",
            "less than or equal to 1",
        ),
        (("recipe:", "gate: {critical_slices: [class=cow]}\nrecipe:"), "the file", "cow"),
        (("recipe:", "owners: [nobody]\nrecipe:"), "owners.0", "pattern"),
        (
            ("recipe: {", "recipe: {augmentations: [{name: mixupp}], "),
            "recipe.augmentations.0",
            "no augmentation is called mixupp; did you mean mixup?",
        ),
        (
            ("recipe: {", "recipe: {augmentations: [{name: zoom}], "),
            "recipe.augmentations.0",
            "zoom; there are shift, rotate",
        ),
        (
            ("recipe: {", "recipe: {augmentations: [{sigma: 0.1}], "),
            "recipe.augmentations.0",
            "name is required",
        ),
        (("recipe: {", "recipe: {augmentations: [{name: mosaic}], "), "the file", "mosaic: four images"),
        (
            ("recipe: {", BOXES + "augmentations: [{name: cutmix}], "),
            "the file",
            "cutmix: this takes one class",
        ),
        (("recipe: {", BOXES + "sampler: balanced, "), "the file", "sampler: this takes one class"),
        (
            ("recipe: {", BOXES + "loss: {label_smoothing: 0.1, class_weights: balanced}, "),
            "the file",
            "loss.label_smoothing, loss.class_weights: this takes one class an image, not boxes; remove it",
        ),
    ],
)
def test_a_wrong_field_names_file_field_and_what_was_expected(tmp_path, change, field, expected):
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ProjectError) as refused:
        load_project(path)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{path}: {field}: ")
    assert expected in line


def test_every_wrong_field_is_listed(tmp_path):
    path = write(tmp_path, GOOD.replace("project: shop", "project: Shop").replace("height: 32", "height: -1"))
    with pytest.raises(ProjectError) as refused:
        load_project(path)
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("classes: [cat, dog]", "classes: [cat, dog"), 6, "expected ',' or ']'"),
        (("recipe:", "\trecipe:"), 6, "a tab, where YAML takes spaces only"),
        (("height: 32", "height: 3_2"), 6, "3_2 is no number: write 32"),
        (("width: 32", "width: 32.0_0"), 6, "32.0_0 is no number: write 32.00"),
        (("[cat, dog]", "[1_0, 2_0]"), 5, "1_0 is no number: write 10, or '1_0' for a name"),
    ],
)
def test_what_is_wrong_with_a_text_is_one_line_with_its_place(tmp_path, change, line, says):
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ProjectError) as refused:
        load_project(path)
    (said,) = str(refused.value).splitlines()
    assert said.startswith(f"{path}: is not valid YAML: line {line}, column ") and says in said


def test_what_is_no_yaml_and_no_mapping_is_refused_by_name(tmp_path):
    for text in ("a: [", "- just\n- a list", ""):
        path = write(tmp_path, text)
        with pytest.raises(ProjectError, match=path.name):
            load_project(path)


def test_of_two_files_of_one_project_neither_is_used(tmp_path):
    write(tmp_path, GOOD, "one.yaml")
    second = write(tmp_path, GOOD, "two.yaml")
    with pytest.raises(ProjectError, match=r"declared in .*(one|two)\.yaml too; keep one"):
        find_project(load_projects(tmp_path), "shop")
    second.unlink()
    with pytest.raises(ProjectError, match="did you mean shop"):
        find_project(load_projects(tmp_path), "ship")


@pytest.mark.parametrize(
    "text", ["project: ship\nrepositry: typo", "project: [", "", "- a list", "project: 7"]
)
def test_a_file_that_cannot_be_used_stops_no_other_project(tmp_path, text):
    write(tmp_path, GOOD)
    bad = write(tmp_path, text, "ship.yaml")
    found = load_projects(tmp_path)
    assert [project.project for project in found] == ["shop"]
    assert find_project(found, "shop").repository == "shop-images"
    with pytest.raises(ProjectError, match=re.escape(str(bad))):
        find_project(found, "ship")
    with pytest.raises(ProjectError, match=r"ship\.yaml cannot be used"):
        find_project(found, "another")
