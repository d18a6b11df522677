"""What the pages of `evaluation` and of its check show, for every kind of verdict."""

import json
from typing import Any

import pandas as pd
import pytest
from holdouts import CLASSES, context, discordant, labels_in_turn, table

from visionops_assets.config.gate_rules import BatchFloor, Bootstrap, Floors, GateRules
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.presentation import SLICES_SHOWN, gate_metadata, verdict_metadata
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.verdict_wording import verdict_summary
from visionops_assets.shells import outputs

SIZE = 600
WEEKS = ["week-01"] * 300 + ["week-02"] * 300
Shown = tuple[dict[str, Any], dict[str, Any]]
RULES = GateRules(critical_slices=("class=nut",), bootstrap=Bootstrap(draws=1000))


def verdict_on(
    wins: int, losses: int, rules: GateRules = RULES, classes: tuple[str, ...] = CLASSES
) -> tuple[Verdict, pd.DataFrame]:
    labels = labels_in_turn(SIZE, classes)
    predictions = table(labels, *discordant(SIZE, wins, losses, 10), classes=classes, batches=WEEKS)
    return gate_verdict(predictions, rules, context=context(predictions, classes=classes)), predictions


def shown(verdict: Verdict, predictions: pd.DataFrame, classes: tuple[str, ...] = CLASSES) -> Shown:
    """The values on the page of the evaluation and on that of its check."""
    page, gate = verdict_metadata(verdict, predictions, classes), gate_metadata(verdict)
    return {name: found.value for name, found in page.items()}, {
        name: found.value for name, found in gate.items()
    }


def rows_of(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    records = [record.data for record in values["slices"].records]
    return {record["slice"]: record for record in records}


@pytest.mark.parametrize(
    ("wins", "losses", "outcome"), [(40, 5, "PASS"), (9, 7, "INSUFFICIENT"), (5, 40, "FAIL")]
)
def test_every_verdict_is_shown_in_words_slices_and_pictures(wins: int, losses: int, outcome: str) -> None:
    verdict, predictions = verdict_on(wins, losses)
    assert verdict.verdict == outcome
    page, gate = shown(verdict, predictions)
    assert page["in_words"] == verdict_summary(verdict)
    seen = [record.data["reason"] for record in page["reason"].records]
    assert " ".join(seen) == verdict_summary(verdict) and max(map(len, seen)) <= outputs.LINE
    assert page["confusion_matrix"].startswith("![confusion matrix](data:image/png")
    for values in (page, gate):
        assert values["verdict"] == outcome
        assert "data:image/png" in values["interval"]
        assert list(rows_of(values)) == [
            "overall",
            *(f"class={name}" for name in CLASSES),
            "batch=week-01",
            "batch=week-02",
        ]
        assert rows_of(values)["class=nut"]["finding"].endswith("critical")
    assert [row.data["reason"] for row in gate["reasons"].records] == [r.text for r in verdict.reasons]


def test_an_undecided_verdict_says_how_many_labels_would_decide_it() -> None:
    verdict, predictions = verdict_on(9, 7)
    assert verdict.evidence is not None and verdict.evidence.labels is not None
    labels = verdict.evidence.labels
    for values in shown(verdict, predictions):
        assert values["labels_to_collect"] == labels.labels_to_collect
        assert values["holdout_images_needed"] == labels.rows_needed
        rows = rows_of(values)
        assert rows["overall"]["more labels"] == labels.labels_to_collect
        asked = {row.name(): row.labels_to_collect for row in verdict.evidence.slices if row.column}
        assert all(asked.values())
        assert {name: rows[name]["more labels"] for name in asked} == asked


def test_a_decided_verdict_asks_for_no_labels() -> None:
    for wins, losses in ((40, 5), (5, 40)):
        verdict, predictions = verdict_on(wins, losses)
        for values in shown(verdict, predictions):
            assert "labels_to_collect" not in values


def test_all_that_is_wrong_with_a_slice_is_found_in_its_row() -> None:
    floors = Floors(batches={"week-02": BatchFloor(floor=0.99, reason="trial of a new lamp")})
    verdict, predictions = verdict_on(0, 60, RULES.model_copy(update={"floors": floors}))
    row = rows_of(shown(verdict, predictions)[1])["batch=week-02"]
    assert row["finding"] == "regressed, below its floor, own floor: trial of a new lamp"


def test_many_slices_stay_small_and_findings_come_first() -> None:
    classes = tuple(f"class {i:03}" for i in range(200))
    floors = Floors(slices={"class": 1.0}, min_samples=1)
    verdict, predictions = verdict_on(40, 5, RULES.model_copy(update={"floors": floors}), classes)
    values, _ = shown(verdict, predictions, classes)
    rows = rows_of(values)
    assert len(rows) == SLICES_SHOWN
    assert all(row["finding"] for row in list(rows.values())[:10])
    assert "more slices are in the stored verdict" in values["in_detail"]
    assert len(json.dumps(rows)) < 50_000


def test_a_table_that_cannot_be_judged_is_shown_all_the_same() -> None:
    labels = labels_in_turn(60)
    predictions = table(labels, *discordant(60, 10, 2))
    predictions.loc[3, "label"] = "gear"
    predictions.loc[5, "challenger_prediction"] = None
    verdict = gate_verdict(predictions, RULES, context=context(predictions))
    values, gate = shown(verdict, predictions)
    assert values["verdict"] == "FAIL"
    assert "'gear'" in values["in_words"]
    assert "slices" not in values and "interval" not in values
    assert gate["verdict"] == "FAIL"
