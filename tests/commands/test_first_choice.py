"""What a new project starts with follows its images: size, epochs, split, floor, and never the machine."""

import datetime
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from visionops.first_project import FirstAnswers, FirstChoice, first_choice, project_file
from visionops.first_recipe import CLASSIFYING, DETECTING
from visionops_assets.config.project import Project, load_project
from visionops_assets.dataset.importing.first_look import BoxSides, FirstLook

# Height and width, up to eight times as long as high or the other way round.
FRAMES = st.tuples(st.integers(32, 800), st.floats(1, 8), st.booleans()).map(
    lambda drawn: (drawn[0], round(drawn[0] * drawn[1]))[:: 1 if drawn[2] else -1]
)
QUICK = settings(max_examples=60, deadline=None)
COUNTS = st.integers(20, 60_000)


def looked(**changes: Any) -> FirstLook:
    """A classification of 400 grey images of 128 pixels, but for what is changed."""
    seen = FirstLook(
        format="folders",
        task="classification",
        images=400,
        classes={"fine": 200, "scratched": 200},
        height=128,
        width=128,
        both_ways=False,
        channels=1,
        boxes=None,
        splits={},
        grouped=False,
    )
    return replace(seen, **changes)


def boxed(median: float, large: float | None = None, most: int = 4, **changes: Any) -> FirstLook:
    """The same with boxes of this median side, nine in ten of them at most `large`."""
    large = 1.5 * median if large is None else large
    return looked(task="detection", boxes=BoxSides(median, large, (0.8 * median, large), most), **changes)


def size(choice: FirstChoice) -> tuple[int, int]:
    return choice.recipe.input.height, choice.recipe.input.width


def as_project(look: FirstLook, folder: Path, **changes: Any) -> Project:
    """The project that the file of a choice declares."""
    choice = first_choice(look)
    answers: dict[str, Any] = {
        "description": "Parts.",
        "owner": "team:vision",
        "licence": "CC0-1.0",
        "floor": choice.floor,
        "approval": "auto",
    }
    answers |= changes
    file = folder / "parts.yaml"
    file.write_text(project_file("parts", look, choice, FirstAnswers(**answers), datetime.date(2026, 1, 1)))
    return load_project(file)


def seconds(look: FirstLook, choice: FirstChoice) -> float:
    """What is said that training takes, at least."""
    training = look.images * choice.shares["train"]
    a_pixel = (DETECTING if look.boxes else CLASSIFYING).a_pixel
    return a_pixel * training * choice.recipe.epochs * math.prod(size(choice))


@QUICK
@given(FRAMES, st.floats(0.01, 0.9), st.floats(1, 3), COUNTS)
@example((442, 59), 0.09375, 1.0, 20)
def test_the_input_follows_the_median_box(frame: tuple[int, int], share: float, larger: float, images: int):
    height, width = frame
    median = share * min(height, width)
    look = boxed(median, larger * median, height=height, width=width, images=images)
    choice = first_choice(look)
    found = size(choice)
    levels = choice.recipe.model.init_args["levels"]
    assert all(side % (4 << levels) == 0 for side in found)  # type: ignore[operator]
    # The longer side leads; the shorter one is rounded to a step once more.
    scale = max(found) / max(frame)
    # Room for rounding to the detector's steps.
    step = (4 << levels) / max(found)  # type: ignore[operator]
    if median * scale * (1 + step) < 12:
        most = math.prod(found) >= 0.7 * 2**20 or max(found) >= 2000
        # Somewhat smaller, the image is not seen often enough for the time that people have. The aim is the
        # longer side's, half a step above at most what was found.
        aimed = (max(found) + (4 << levels) / 2) / max(frame)  # type: ignore[operator]
        hurried = (
            median * scale * (1 + step) >= 9 and aimed**2 * math.prod(frame) >= DETECTING.pixels_seen_least()
        )
        assert most or hurried or scale * (1 + step) >= 2, "small boxes get all there is"
    if median * scale > 24 * (1 + step):
        assert scale <= 1 + step and math.prod(found) <= 1.5 * 96**2, "large boxes are made smaller"


@pytest.mark.parametrize("images", [60, 600, 6000])
def test_larger_boxes_never_make_a_larger_input_nor_a_longer_training(images: int):
    looks = [
        boxed(median, height=1080, width=1920, images=images) for median in (5, 10, 20, 40, 80, 160, 320, 640)
    ]
    choices = [first_choice(look) for look in looks]
    areas = [math.prod(size(choice)) for choice in choices]
    assert areas == sorted(areas, reverse=True) and len(set(areas)) > 3
    took = [round(seconds(look, choice)) for look, choice in zip(looks, choices, strict=True)]
    assert took == sorted(took, reverse=True)


@pytest.mark.parametrize(("median", "frame"), [(20, (1080, 1920)), (12, (720, 1280)), (8, (480, 640))])
def test_small_boxes_in_large_images_train_within_minutes_and_are_seen_often(
    median: float, frame: tuple[int, int]
):
    look = boxed(median, height=frame[0], width=frame[1], images=200)
    choice = first_choice(look)
    assert seconds(look, choice) < 600
    assert median * size(choice)[0] / frame[0] >= 8.5, "no smaller than the grid tells"
    assert choice.recipe.epochs * 200 * choice.shares["train"] >= DETECTING.hurried


@pytest.mark.parametrize("images", [1_000, 10_000, 60_000])
def test_many_images_are_seen_in_few_epochs(images: int):
    choice = first_choice(boxed(80, height=1080, width=1920, images=images))
    assert choice.recipe.epochs >= DETECTING.hurried_epochs
    assert images < 10_000 or choice.recipe.epochs == DETECTING.hurried_epochs


def test_large_boxes_lie_within_what_a_place_of_the_detector_sees():
    for large, seen in ((30, 63), (60, 151), (200, 327)):
        init_args = first_choice(boxed(24, large, height=256, width=256)).recipe.model.init_args
        levels = init_args["levels"]
        assert large < seen == {1: 63, 2: 151, 3: 327}[levels]  # type: ignore[index]


def test_a_detector_may_give_more_answers_than_any_image_has_boxes():
    for most in (1, 20, 100, 190):
        assert first_choice(boxed(20, most=most)).recipe.model.init_args["detections"] > most  # type: ignore[operator]


@QUICK
@given(FRAMES, COUNTS)
def test_classified_images_keep_their_size_or_their_shape(frame: tuple[int, int], images: int):
    height, width = frame
    choice = first_choice(looked(height=height, width=width, images=images))
    found = size(choice)
    if height * width <= 128 * 128:
        assert found == (height, width)
    assert math.prod(found) <= 1.2 * 224 * 224 and found[0] <= height + 8 and found[1] <= width + 8
    if found != (height, width):
        assert math.prod(found) >= 0.7 * 128 * 128
        assert f"{found[1]}×{found[0]}" in choice.why["input"] and f"{width}×{height}" in choice.why["input"]
        assert "is lost" in choice.why["input"], "never silently"
        scales = (found[0] / height, found[1] / width)
        assert max(scales) / min(scales) < 1 + 8 / min(found)


@pytest.mark.parametrize("look", [looked(), boxed(20)], ids=["classification", "detection"])
def test_more_images_are_seen_in_no_more_epochs_and_few_are_seen_often_enough(look: FirstLook):
    counts = (60, 100, 300, 1_000, 3_000, 10_000, 50_000)
    choices = [first_choice(replace(look, images=count)) for count in counts]
    epochs = [choice.recipe.epochs for choice in choices]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > 3 * epochs[-1] > 15
    for count, choice in zip(counts, choices, strict=True):
        steps = choice.recipe.epochs * count * choice.shares["train"] / choice.recipe.batch_size
        assert steps > 150


def test_four_hundred_images_of_128_pixels_are_said_to_train_within_two_minutes():
    assert first_choice(looked()).recipe.epochs >= 20
    assert seconds(looked(), first_choice(looked())) < 120


def test_the_time_said_is_that_of_the_recipe():
    look = boxed(100, height=1080, width=1920, images=300)
    choice = first_choice(look)
    assert f"up to {math.ceil(seconds(look, choice) * 13 / 12 / 60)} minutes" in choice.why["epochs"]


def test_one_thread_trains_whatever_the_images():
    for look in (looked(), boxed(20), boxed(200, height=2000, width=3000, images=5000)):
        assert first_choice(look).recipe.threads == 1


def test_upright_and_lying_images_share_a_square():
    for look in (
        looked(height=300, width=400, both_ways=True),
        boxed(30, height=400, width=300, both_ways=True),
    ):
        choice = first_choice(look)
        assert size(choice)[0] == size(choice)[1]
        assert "a square holds both" in choice.why["input"]


def test_classes_that_mirroring_would_change_are_not_mirrored():
    def flips(*classes: str) -> bool:
        choice = first_choice(boxed(20, classes=dict.fromkeys(classes, 50)))
        return any(one.name == "horizontal_flip" for one in choice.recipe.augmentations)

    assert flips("bolt", "nut") and flips("bright", "leftover")
    assert not flips("left hand", "right hand") and not flips("0", "1") and not flips("arrow_left", "other")
    assert not any("flip" in one.name for one in first_choice(looked()).recipe.augmentations)


@pytest.mark.parametrize("images", [60, 63, 80, 100, 119, 128, 400])
def test_enough_is_held_out_for_the_gate_wherever_there_are_sixty_images(images: int):
    choice = first_choice(looked(images=images))
    assert sum(choice.shares.values()) == pytest.approx(1)
    assert images * choice.shares["holdout"] >= 30 and images * choice.shares["train"] >= 24
    assert ("splits" in choice.why) == (images < 128)


def test_too_few_held_out_is_said_before_anything_is_trained():
    few, came = first_choice(looked(images=40)), first_choice(looked(splits={"train": 380, "holdout": 20}))
    for choice, held in ((few, 20), (came, 20)):
        assert f"About {held} images are held out" in choice.why["splits"]
        assert "INSUFFICIENT" in choice.why["splits"]
    assert came.shares == first_choice(looked()).shares


def test_the_epochs_follow_the_images_that_came_to_train_on():
    came = first_choice(looked(splits={"train": 30, "val": 10, "holdout": 360}))
    assert came.recipe.epochs == first_choice(looked(images=50)).recipe.epochs
    assert "30 training images" in came.why["epochs"]


@QUICK
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_floor_of_a_classifier_lies_above_a_guess(fine: int, scratched: int):
    choice = first_choice(looked(classes={"fine": fine, "scratched": scratched}))
    guess = max(fine, scratched) / (fine + scratched)
    assert 0.5 <= choice.floor <= 1 and choice.floor > guess - 0.01
    assert choice.floor <= guess + (1 - guess) / 4 + 1e-9 or choice.floor == 0.5
    assert f"{choice.floor:g}" in choice.why["floor"]


def test_the_floor_of_a_detector_is_what_shifted_boxes_do_not_reach():
    assert 0.1 < first_choice(boxed(20)).floor < 0.5
    assert "mAP@0.5" in first_choice(boxed(20)).why["floor"]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 20_000), st.floats(0.5, 500), COUNTS, st.booleans())
def test_every_choice_is_a_project_file_that_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, median: float, images: int, boxes: bool
):
    changes: dict[str, Any] = {"height": height, "width": width, "images": images}
    look = boxed(median, **changes) if boxes else looked(**changes)
    choice = first_choice(look)
    project = as_project(look, tmp_path_factory.mktemp("file"))
    assert project.recipe == choice.recipe
    assert project.splits.shares() == pytest.approx(dict(choice.shares))
    assert project.gate.floors.overall == project.gate.floors.batch == choice.floor
    if choice.object_sizes is not None:
        assert project.gate.object_sizes == choice.object_sizes
    assert first_choice(look) == choice


def test_one_class_of_boxes_is_a_project_whatever_it_is_called(tmp_path: Path):
    project = as_project(boxed(20, classes={"off: {0} # é": 90}), tmp_path)
    assert project.classes == ("off: {0} # é",)
    assert max(len(line) for line in (tmp_path / "parts.yaml").read_text().splitlines()) <= 120
