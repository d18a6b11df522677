"""A model that fails where the champion does not: what came between the two is named, not what shows it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from holdouts import context, labels_in_turn, table

from tests.world import CLASSES, World, shapes_project, write_batch
from visionops_assets.config.gate_rules import Bootstrap, Floors, GateRules
from visionops_assets.dataset.batch_publishing import Publisher
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.verdict import BatchBetween, Between, Verdict
from visionops_assets.evaluation.verdict_wording import verdict_page, verdict_summary


def shifted_training_batch(folder: Path, images: int, seed: int) -> Path:
    """A batch of training images alone, each labelled as the next class."""
    write_batch(folder, images, seed)
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["label"] = CLASSES[(CLASSES.index(row["label"]) + 1) % len(CLASSES)]
    with (folder / "labels.csv").open("w", newline="") as stream:
        written = csv.DictWriter(stream, ("path", "label", "split"))
        written.writeheader()
        written.writerows({**row, "split": "train"} for row in rows)
    return folder


@pytest.mark.slow
def test_a_batch_that_spoils_training_is_blamed_not_the_batch_that_shows_it(promoted: World) -> None:
    world = promoted
    folder = shifted_training_batch(world.root / "drop" / "week-02", 300, seed=2)
    Publisher(world.project, world.lakefs, world.artifacts).publish(folder, "week-02")

    refused = world.tick()

    assert refused.outcome == "refused"
    assert "batch week-02 (training images: 300 came)" in refused.reason
    assert "`visionops retract shapes week-02 --why TEXT`" in refused.reason
    assert "retract shapes week-01" not in refused.reason
    assert world.champion() == 1


def test_a_recipe_that_spoils_training_is_blamed_and_no_batch_is(promoted: World) -> None:
    world = promoted
    recipe = {**world.project.recipe.model_dump(mode="json"), "optimiser": {"lr": 1e-9}}
    floors = {"overall": 0.9, "batch": 0.9, "min_samples": 10}
    gate = {**world.project.gate.model_dump(mode="json"), "floors": floors}
    world.projects = [shapes_project(recipe=recipe, gate=gate)]

    refused = world.tick()

    assert refused.outcome == "refused", refused.reason
    assert "no training image differs" in refused.reason
    assert "optimiser.lr 0.003 → 1e-09" in refused.reason
    assert "retract" not in refused.reason


def judged(between: Between | None, champion_holds: bool = True) -> Verdict:
    """Two weeks; the challenger is below the floor on the first, the champion as told."""
    size = 600
    labels = labels_in_turn(size)
    weeks = ["week-01"] * 300 + ["week-02"] * 300
    challenger, champion = np.ones(size, bool), np.ones(size, bool)
    challenger[:300:3] = False
    if not champion_holds:
        champion[:300:4] = False
    predictions = table(labels, challenger, champion, batches=weeks)
    rules = GateRules(floors=Floors(batch=0.85), bootstrap=Bootstrap(draws=1000))
    return gate_verdict(predictions, rules, context=context(predictions, between=between))


WEEK = BatchBetween(batch="week-03", added=500)


@pytest.mark.parametrize(
    ("between", "told", "untold"),
    [
        (Between(batches=[WEEK], inputs=[]), ["batch week-03", "`visionops retract parts week-03"], ["week-01 --"]),
        (
            Between(batches=[WEEK, BatchBetween(batch="week-02", relabelled=12)], inputs=["epochs 20 → 2"]),
            ["12 relabelled", "retract parts week-03", "retract parts week-02", "epochs 20 → 2"],
            [],
        ),
        (
            Between(batches=[BatchBetween(batch="raw", added=9, published=False)], inputs=[]),
            ["batch raw"],
            ["retract parts raw"],
        ),
        (Between(batches=[BatchBetween(batch="week-00", removed=80)], inputs=[]), ["80 no longer there"], ["retract"]),
        (Between(batches=[], inputs=["the training code"]), ["the training code"], ["retract"]),
        (Between(batches=[], inputs=[]), ["another seed"], ["retract"]),
        (None, ["not recorded"], ["retract"]),
    ],
)  # fmt: skip
def test_what_came_between_is_told_with_the_command_that_takes_it_back(
    between: Between | None, told: list[str], untold: list[str]
) -> None:
    verdict = judged(between)
    assert verdict.verdict == "FAIL"
    page = verdict_page(verdict).to_markdown()
    for words in told:
        assert words in page
        assert words in verdict_summary(verdict)
    for words in untold:
        assert words not in page
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_where_the_champion_is_below_the_floor_too_the_batch_itself_is_named() -> None:
    verdict = judged(Between(batches=[WEEK], inputs=[]), champion_holds=False)
    assert verdict.reasons[0].subject == "batch=week-01"
    assert "`visionops retract parts week-01 --why TEXT`" in verdict.reasons[0].text
