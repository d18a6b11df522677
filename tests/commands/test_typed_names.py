"""Every name that a person types is looked up alike, and one that is not there brings up what was meant."""

import pytest
from desk import Desk

from resources.lakefs.replies import LakeFSNotFound
from resources.models.records import ModelNotFound, RunNotFound
from visionops.comparing.sides import ComparisonError
from visionops_assets.common.errors import NothingToRollBackTo, VerdictMissing
from visionops_assets.config.project import ProjectError
from visionops_assets.dataset.retraction import RetractionRefused
from visionops_assets.dataset.versions.dataset_version import UnknownVersion, named_commit
from visionops_assets.experiments.sweep import OverrideError

WHY = ("--why", "because")


@pytest.fixture
def desk_of_weeks(desk: Desk) -> Desk:
    """A terminal where three batches were published, one of them twice."""
    for number, images in enumerate((30, 24, 18)):
        desk.world.publish(f"week-{number + 1:02d}", images, seed=number)
    return desk


def test_a_batch_names_the_state_that_published_it(desk_of_weeks: Desk) -> None:
    desk = desk_of_weeks
    assert "week-03: 18 images added" in (told := desk.run("diff", "shapes", "week-02", "week-03"))
    assert "week-02" not in told
    assert "week-02: 24 images added" in desk.run("diff", "shapes", "week-01", "main")
    assert "week-03: 18 images removed" in desk.run("diff", "shapes", "week-03", "week-02")
    assert "54 images are there" in desk.run("verify", "shapes", "week-02")
    desk.world.publish("week-01", 27, seed=9)
    assert "week-01" in desk.run("diff", "shapes", "week-03", "week-01"), "the newest publication counts"
    desk.run("retract", "shapes", "week-02", *WHY)
    assert "week-02: 24 images removed" in desk.run("diff", "shapes", "week-02", "main")


def test_a_batch_that_is_called_like_the_beginning_of_a_commit_is_still_a_batch(desk: Desk) -> None:
    world = desk.world
    first = world.publish("week-01", 30, seed=1)
    named = world.lakefs.head("shapes").id[:1]
    world.publish(named, 24, seed=2)
    published = world.lakefs.head("shapes").id
    assert first and named_commit(world.lakefs, world.project, named).id == published
    assert named_commit(world.lakefs, world.project, published[:12]).id == published
    assert f"{named}: 24 images added" in desk.run("diff", "shapes", "week-01", named)


def test_what_a_model_was_trained_on_is_compared_by_the_models_name(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    desk.world.publish("week-02", 30, seed=2)
    for model in ("champion", "1", "v1"):
        assert "week-02: 30 images added" in desk.run("diff", "shapes", model, "week-02")
    assert "week-01" in desk.run("compare", "shapes", "champion", "week-01")


TYPED: list[tuple[tuple[str, ...], type[Exception], str]] = [
    (("status", "shaps"), ProjectError, "no project is called shaps; did you mean shapes"),
    (("diff", "shapes", "week-2", "main"), ComparisonError, "did you mean week-02"),
    (("diff", "shapes", "main", "mian"), ComparisonError, "did you mean main"),
    (
        ("verify", "shapes", "week-4"),
        UnknownVersion,
        r"called week-4; did you mean .*batches are week-01, week-02",
    ),
    (("train", "shapes", "--dataset-version", "Week_02"), UnknownVersion, r"did you mean week-02\?"),
    (("compare", "shapes", "week-1", "main"), ComparisonError, "did you mean week-01"),
    (("retract", "shapes", "week-1", *WHY), RetractionRefused, "did you mean week-01"),
    (("train", "shapes", "--set", "optimizer.lr=1"), OverrideError, "did you mean optimiser"),
    (("train", "shapes", "--set", "optimiser.lrr=1"), OverrideError, "did you mean lr"),
    (("submit", "shapes", "0" * 32), RunNotFound, "visionops train PROJECT"),
]


def test_a_name_that_is_not_there_brings_up_what_was_meant(desk_of_weeks: Desk) -> None:
    for arguments, error, said in TYPED:
        with pytest.raises(error, match=said):
            desk_of_weeks.run(*arguments)


MODELS: list[tuple[tuple[str, ...], type[Exception], str]] = [
    (("why", "shapes", "--model-version", "7"), ModelNotFound, "shapes has version 1"),
    (("reproduce", "shaps", "--model-version", "1"), ModelNotFound, "did you mean shapes"),
    (("why", "shapes", "--group", "line-1"), ModelNotFound, "device group line-1; there are: all"),
    (("diff", "shapes", "1", "7"), ComparisonError, "shapes has version 1"),
    (("rollback", "shaps", *WHY), NothingToRollBackTo, "did you mean shapes"),
    (("rollback", "shapes", "--model-version", "7", *WHY), NothingToRollBackTo, "never in production"),
    (
        ("override", "shapes", "zz", *WHY),
        VerdictMissing,
        "no decision zz; there are: [0-9a-f]{12}",
    ),
    (("compare", "shapes", "champon"), ComparisonError, "did you mean champion"),
]


def test_a_model_that_is_not_there_brings_up_those_that_are(desk_of_promoted: Desk) -> None:
    for arguments, error, said in MODELS:
        with pytest.raises(error, match=said):
            desk_of_promoted.run(*arguments)


def test_what_lakefs_does_not_have_is_still_what_lakefs_does_not_have(desk: Desk) -> None:
    world = desk.world
    world.publish("week-01", 30, seed=1)
    with pytest.raises(LakeFSNotFound):
        named_commit(world.lakefs, world.project, "f" * 64)
