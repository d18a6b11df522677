"""A challenger's run in MLflow shows what became of it: the holdout's numbers, the outcome and the words."""

import pytest

from resources.models.records import TAG_DESCRIPTION, TAG_VERDICT, Run
from tests.world import World
from visionops_assets.evaluation.run_records import show_verdict
from visionops_assets.evaluation.verdict_store import find, listed


def newest(world: World) -> Run:
    return world.registry.runs.search("shapes")[0]


def points(world: World, run: Run, name: str) -> list[float]:
    with world.registry.runs._connection.client("history") as client:
        return [point.value for point in client.get_metric_history(run.id, name)]


@pytest.mark.slow
def test_a_promoted_and_a_refused_run_show_their_numbers_and_their_verdicts(promoted: World) -> None:
    first = newest(promoted)
    assert first.tags[TAG_VERDICT] == "PASS"
    assert first.metrics["holdout_accuracy"] > 0.4 and "holdout_accuracy_gain" not in first.metrics
    assert "The first champion" in first.tags[TAG_DESCRIPTION] and "8×8" in first.tags[TAG_DESCRIPTION]
    promoted.publish("week-02", 120, seed=2, wrong=0.9)
    ticked = promoted.tick()
    assert ticked.outcome == "refused"
    refused = newest(promoted)
    assert refused.id != first.id and refused.tags[TAG_VERDICT] == "FAIL"
    assert (
        "week-02" in refused.tags[TAG_DESCRIPTION] and str(ticked.partition) in refused.tags[TAG_DESCRIPTION]
    )
    assert refused.metrics["holdout_images"] == int(refused.metrics["holdout_images"]) > 0
    (gain,) = points(promoted, refused, "holdout_accuracy_gain")
    assert gain == refused.metrics["holdout_accuracy_gain"]

    # Killed after it was stored, a verdict is shown again: nothing is told twice, and a what-if replaces no decision.
    entry = listed(promoted.registry.models.get("shapes").tags)
    decided = find(promoted.registry, "shapes", refused.id, list(entry)[-1], "decision")
    assert decided is not None
    show_verdict(promoted.registry, decided, refused.id, str(ticked.partition))
    what_if = decided.model_copy(update={"kind": "what_if", "verdict": "INSUFFICIENT"})
    show_verdict(promoted.registry, what_if, refused.id, "elsewhere")
    assert newest(promoted) == refused
    assert points(promoted, refused, "holdout_accuracy_gain") == [gain]


def test_a_what_if_is_shown_until_a_decision_is_made(promoted: World) -> None:
    run = newest(promoted)
    (identity,) = listed(promoted.registry.models.get("shapes").tags)
    decided = find(promoted.registry, "shapes", run.id, identity, "decision")
    assert decided is not None
    another = promoted.registry.runs.start("shapes", "another", {TAG_DESCRIPTION: "what it is"})
    what_if = decided.model_copy(update={"kind": "what_if"})
    show_verdict(promoted.registry, what_if, another.id, "20260101T000000-000000000000")
    shown = promoted.registry.runs.get(another.id)
    assert shown.tags[TAG_VERDICT] == "PASS (what-if)" and "promotes nothing" in shown.tags[TAG_DESCRIPTION]
    show_verdict(promoted.registry, decided, another.id, "20260101T000000-000000000000")
    shown = promoted.registry.runs.get(another.id)
    assert shown.tags[TAG_VERDICT] == "PASS" and "what-if" not in shown.tags[TAG_DESCRIPTION]
    assert shown.tags[TAG_DESCRIPTION].count("what it is") == 1
