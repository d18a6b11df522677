"""A verdict is data: it survives storage, knows its identity, and reads as text."""

import json

import pytest
from holdouts import context, discordant, labels_in_turn, model, sha, table

from visionops_assets.config.gate_rules import Bootstrap, Floors, GateRules
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.verdict import Verdict, verdict_identity
from visionops_assets.evaluation.verdict_wording import verdict_page, verdict_summary

RULES = GateRules(critical_slices=("class=nut",), floors=Floors(batch=0.8), bootstrap=Bootstrap(draws=1000))


def verdict_of(wins: int, losses: int, **changes: object) -> Verdict:
    labels = labels_in_turn(300)
    predictions = table(labels, *discordant(300, wins, losses, 10), batches=["a|b"] * 150 + ["week-02"] * 150)
    return gate_verdict(predictions, RULES, context=context(predictions, **changes))


@pytest.mark.parametrize(("wins", "losses"), [(40, 2), (5, 5), (2, 40), (0, 0)])
def test_a_stored_verdict_is_read_back_as_it_was(wins: int, losses: int) -> None:
    verdict = verdict_of(wins, losses, dagster_run_id="run-1")
    again = Verdict.from_json(verdict.to_json())
    assert again == verdict
    assert again.to_json() == verdict.to_json()
    assert "NaN" not in verdict.to_json()


def test_the_same_arguments_give_the_same_verdict() -> None:
    assert verdict_of(20, 10).to_json() == verdict_of(20, 10).to_json()


def test_identity_follows_challenger_champion_holdout_and_rules() -> None:
    verdict = verdict_of(20, 10)
    assert verdict.identity == verdict_identity(
        sha("challenger"), sha("champion"), verdict.holdout_digest, RULES.digest()
    )
    identities = {
        verdict.identity,
        verdict_of(20, 10, challenger=model("another")).identity,
        verdict_of(20, 10, champion=model("another")).identity,
        verdict_of(20, 10, holdout_digest=sha("another")).identity,
        verdict_identity(sha("challenger"), None, verdict.holdout_digest, RULES.digest()),
    }
    assert len(identities) == 5
    assert verdict_of(20, 10, k=3, kind="what_if", dagster_run_id="run-2").identity == verdict.identity


def test_a_verdict_of_an_earlier_release_is_read_by_its_identity() -> None:
    """It knows nothing of tolerances, and of what came between."""
    verdict = verdict_of(2, 40)
    content = json.loads(verdict.to_json())
    del content["evidence"]["between"]
    for row in content["evidence"]["slices"]:
        del row["tolerance"], row["loss_found"]
    again = Verdict.from_json(json.dumps(content))
    assert again.identity == verdict.identity
    assert again.evidence is not None and again.evidence.slices[0].tolerance is None
    assert verdict_page(again).to_markdown()


def test_an_altered_verdict_is_refused() -> None:
    content = json.loads(verdict_of(2, 40).to_json())
    content["challenger"]["weights_sha256"] = sha("another")
    with pytest.raises(ValueError, match="altered"):
        Verdict.from_json(json.dumps(content))


@pytest.mark.parametrize("text", ['{"format": 2}', "[]", "{}"])
def test_another_format_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no verdict of format 1"):
        Verdict.from_json(text)


@pytest.mark.parametrize(("wins", "losses"), [(40, 2), (5, 5), (2, 40)])
def test_a_verdict_reads_as_a_page(wins: int, losses: int) -> None:
    verdict = verdict_of(wins, losses)
    page = verdict_page(verdict).to_markdown()
    assert page.startswith(f"# {verdict.verdict}\n")
    assert verdict.identity in page
    for reason in verdict.reasons:
        assert reason.text[1:] in page
    assert "| class=nut | 100 |" in page
    # A name with a bar does not break the table.
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1


@pytest.mark.parametrize(("wins", "losses"), [(40, 2), (5, 5), (2, 40), (0, 0)])
def test_a_summary_is_short_and_begins_with_the_outcome(wins: int, losses: int) -> None:
    verdict = verdict_of(wins, losses)
    assert verdict_summary(verdict).startswith(f"{verdict.verdict}: ")
    assert len(verdict_summary(verdict)) < 500
    assert "\n" not in verdict_summary(verdict)


def test_a_verdict_says_what_it_claims_against() -> None:
    assert "the difference is 0 or less" in verdict_of(20, 10).claimed_against
    labels = labels_in_turn(300)
    predictions = table(labels, *discordant(300, 10, 10))
    rules = GateRules(require="non_inferior", min_improvement=0.02)
    claimed = gate_verdict(predictions, rules, context=context(predictions)).claimed_against
    assert "worse by 2.00 points or more" in claimed
    assert sha("champion")[:12] in claimed
