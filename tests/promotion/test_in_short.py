"""What the page of `in_production` says without a click."""

from promotion_world import PROJECT, hour
from test_explain import World

from resources.models.records import PROVENANCE_ARTIFACT
from visionops_assets.promotion.explain import why
from visionops_assets.promotion.production_change import Attribution
from visionops_assets.promotion.production_report import changes_in_short, trained_on_in_short, why_in_short
from visionops_assets.promotion.rollback import rollback


def _two_versions(**changed: object) -> World:
    world = World()
    world.promote(world.train("one", {"week-1": ["0", "0", "1"]}), at=1)
    world.promote(world.train("two", {"week-1": ["0", "1", "1"], "week-2": ["0", "1"]}, **changed), at=2)
    return world


def test_a_promotion_in_three_sentences() -> None:
    world = _two_versions(epochs=9, packages={"python": "3.11.7", "torch": "2.14.0"})
    found = why(world, world.store, PROJECT)
    assert "version 2 promoted, replacing version 1, by sensor: PASS" in why_in_short(found)
    assert trained_on_in_short(found).startswith(
        "3 training and 1 validation images of 2 classes, at commit "
    )
    assert changes_in_short(found) == (
        "Against version 1: images: 2 added, 1 relabelled; other recipe (epochs) and packages (torch)."
    )


def test_what_is_equal_is_said_to_be() -> None:
    world = _two_versions()
    assert changes_in_short(why(world, world.store, PROJECT)).endswith(
        "; the same recipe, code, packages and hardware."
    )


def test_a_rollback_says_who_and_why() -> None:
    world = _two_versions()
    rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "missed scratches"))
    found = why(world, world.store, PROJECT)
    assert "rolled back to version 1, replacing version 2, by ada: missed scratches" in why_in_short(found)
    assert changes_in_short(found) == "Nothing to compare with: it replaced no model."


def test_what_is_missing_is_said() -> None:
    world = _two_versions()
    for run in ("run-one", "run-two"):
        del world.files[run, PROVENANCE_ARTIFACT]
    found = why(world, world.store, PROJECT)
    assert "its provenance is missing" in trained_on_in_short(found)
    assert "recipe and code cannot be compared" in changes_in_short(found)
