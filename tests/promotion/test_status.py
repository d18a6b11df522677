"""What `visionops status` says."""

import json

import pytest
from promotion_world import PROJECT, FakeRegistry, hour, judged, trained

from resources.models.records import TAG_WEIGHTS
from visionops_assets.evaluation.approvals import approve, reject
from visionops_assets.evaluation.verdict import Comparison, Evidence, LabelsNeeded
from visionops_assets.evaluation.verdict_store import reserve
from visionops_assets.promotion.production_change import Attribution
from visionops_assets.promotion.promote import promote
from visionops_assets.promotion.rollback import rollback
from visionops_assets.promotion.status import status


@pytest.fixture
def world() -> FakeRegistry:
    """Versions 1 and 2 were promoted at hours 1 and 2."""
    world = FakeRegistry()
    for number, name in enumerate(("one", "two"), start=1):
        verdict = judged(world, trained(world, name), when=hour(number))
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(number))
    return world


def test_project_without_a_model_has_a_status() -> None:
    found = status(FakeRegistry(), PROJECT, alpha=0.05).to_json()
    assert found["champion"] is None and found["history"] == [] and found["verdicts"] == []
    assert found["level_left"] == pytest.approx(0.025)
    assert "no model in production" in status(FakeRegistry(), PROJECT, alpha=0.05).to_text()


def test_champion_history_and_verdicts_are_told_and_survive_json(world: FakeRegistry) -> None:
    found = json.loads(json.dumps(status(world, PROJECT, alpha=0.05).to_json()))
    assert found["champion"] == {
        "version": 2,
        "sha256": world.made[2].weights_sha256,
        "onnx_sha256": world.made[2].onnx_sha256,
        "partition": "partition-of-two",
        "since": "2026-03-02T10:00:00+00:00",
    }
    assert [(each["from"], each["to"], each["kind"]) for each in found["history"]] == [
        (None, 1, "promotion"),
        (1, 2, "promotion"),
    ]
    assert [each["outcome"] for each in found["verdicts"]] == ["PASS", "PASS"]
    assert [each["until"] for each in found["in_production"]] == ["2026-03-02T10:00:00+00:00", None]
    assert found["hold"] is None and found["incomplete"] is None and not found["moved_by_hand"]


def test_level_left_falls_with_every_challenger_and_starts_again_with_a_new_champion(
    world: FakeRegistry,
) -> None:
    champion = world.made[2].weights_sha256
    for name in ("three", "four"):
        challenger = trained(world, name).tags[TAG_WEIGHTS]
        reserve(world, PROJECT, challenger=challenger, champion=champion, verdict="v" * 64)
    assert status(world, PROJECT, alpha=0.05).level_left == pytest.approx(0.05 / 12)
    verdict = judged(world, world.run_records["run-three"])
    promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(3))
    assert status(world, PROJECT, alpha=0.05).level_left == pytest.approx(0.025)


def test_labels_are_asked_for_by_the_last_insufficient_verdict_against_this_champion(
    world: FakeRegistry,
) -> None:
    labels = LabelsNeeded(
        improvement=0.01, level=0.025, spread=0.1, rows_now=100, rows_needed=800, labels_to_collect=2800
    )
    primary = Comparison(metric="accuracy", unit="share", challenger=0.9, champion=0.9, difference=0.0)
    evidence = Evidence(rows=100, groups=100, present_classes=2, primary=primary, labels=labels)
    judged(world, trained(world, "three"), "INSUFFICIENT", evidence=evidence, when=hour(3))
    found = status(world, PROJECT, alpha=0.05)
    assert found.labels_needed == 2800 and "2,800 more" in found.to_text()
    verdict = judged(world, trained(world, "four"), when=hour(4))
    promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(5))
    assert status(world, PROJECT, alpha=0.05).labels_needed is None


def test_every_device_group_has_its_own_history(world: FakeRegistry) -> None:
    verdict = judged(world, trained(world, "three"), when=hour(3))
    promote(world, project=PROJECT, verdict=verdict.identity, who="ada", when=hour(3), group="line-4")
    everywhere, canary = (
        status(world, PROJECT, alpha=0.05),
        status(world, PROJECT, alpha=0.05, group="line-4"),
    )
    assert everywhere.to_json()["groups"] == {"line-4": 3}
    assert [each["version"] for each in everywhere.to_json()["in_production"]] == [1, 2]
    assert [each["version"] for each in canary.to_json()["in_production"]] == [3]
    text = everywhere.to_text()
    assert text.index("In production, newest first") < text.index("In production on line-4, newest first")


def test_hold_is_shown_with_its_reason_and_its_way_out(world: FakeRegistry) -> None:
    rollback(world, project=PROJECT, by=Attribution("ada", hour(3), "missed scratches"))
    found = status(world, PROJECT, alpha=0.05)
    assert found.to_json()["hold"]["why"] == "missed scratches"
    assert "ON HOLD" in found.to_text() and "visionops release digits --why TEXT" in found.to_text()


def test_passes_wait_for_a_person_only_where_the_project_says_so(world: FakeRegistry) -> None:
    first = judged(world, trained(world, "three"), when=hour(3))
    second = judged(world, trained(world, "four"), when=hour(4))
    judged(world, trained(world, "five"), "FAIL", when=hour(5))
    assert status(world, PROJECT, alpha=0.05).waiting == ()
    waiting = status(world, PROJECT, alpha=0.05, approval="manual").waiting
    assert [each.identity for each in waiting] == [first.identity, second.identity]
    approve(world, PROJECT, first.identity, who="ada", when=hour(6))
    reject(world, PROJECT, second.identity, who="ada", when=hour(6), why="lens")
    after = status(world, PROJECT, alpha=0.05, approval="manual")
    assert after.waiting == () and "reject by ada" in after.to_text()


def test_change_that_did_not_complete_is_shown(world: FakeRegistry) -> None:
    verdict = judged(world, trained(world, "three"))

    def stop(step: str) -> None:
        if step == "recorded":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(3), on_step=stop)
    found = status(world, PROJECT, alpha=0.05)
    assert found.champion is not None and found.champion.version == 2
    assert "NOT COMPLETED" in found.to_text() and found.to_json()["incomplete"]["to"] == 3


def test_nothing_is_advised_that_would_be_refused_while_it_is_not_clear_what_runs(
    world: FakeRegistry,
) -> None:
    judged(world, trained(world, "three"), when=hour(3))
    assert status(world, PROJECT, alpha=0.05).ready is not None
    world.models.delete_alias(PROJECT, "champion")
    for found in (status(world, PROJECT, alpha=0.05), status(world, PROJECT, alpha=0.05, approval="manual")):
        assert found.ready is None and found.waiting == () and found.to_json()["moved_by_hand"]
        assert "visionops approve" not in found.to_text()


def test_deleted_champion_is_said(world: FakeRegistry) -> None:
    del world.made[2]
    assert "deleted from the registry" in status(world, PROJECT, alpha=0.05).to_text()
