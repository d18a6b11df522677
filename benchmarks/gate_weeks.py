"""A year of weekly decisions: how many true gains the gate sees, and what more labels would do.

Every week a new challenger is judged against the champion on the same growing holdout. Every fourth week the training
data brings a true gain of one point, which later challengers keep; in between, challengers are new seeds of the same
quality. The models answer independently, each right with its true accuracy, except that they agree on most images.

    python benchmarks/gate_weeks.py --years 20
"""

import argparse
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.common.error_levels import Decision, turn_of
from visionops_assets.config.gate_rules import Bootstrap, GateRules
from visionops_assets.evaluation.context import LEAK_COLUMNS
from visionops_assets.evaluation.gate import GateContext, gate_verdict
from visionops_assets.evaluation.verdict import ModelReference, Verdict
from visionops_assets.inference.predictions import Scores, holdout_digest, predictions_table

CLASSES = ("bolt", "nut", "screw", "washer")
WEEKS = 52
GAIN = 0.01
FIRST_ACCURACY = 0.80
# Two trainings of one recipe differ on about this share of the images.
DISCORDANT = 0.06


@dataclass(frozen=True)
class Year:
    """What became of a year's decisions. Accuracies are the models' true ones."""

    promoted: int
    false_promotions: int
    reached: float
    possible: float
    labels_asked_for: tuple[int, ...]


def simulate_year(
    *, seed: int, first_holdout: int, weekly_holdout: int, rules: GateRules, weeks: int = WEEKS
) -> Year:
    """Judge a challenger a week, one after the other; a promotion makes the challenger champion."""
    rng = np.random.default_rng(seed)
    size = first_holdout + weekly_holdout * weeks
    # One number an image: how hard it is. A model of accuracy a gets the images below a right, but for its own noise.
    hardness = rng.random(size)
    rows = _holdout(size, first_holdout, weekly_holdout, rng)
    champion_accuracy, champion = FIRST_ACCURACY, _name("first")
    champion_right = _answers(hardness, FIRST_ACCURACY, rng)
    decisions: list[Decision] = []
    promoted = false_promotions = 0
    asked: list[int] = []
    for week in range(1, weeks + 1):
        accuracy = FIRST_ACCURACY + GAIN * (week // 4)
        challenger_right = _answers(hardness, accuracy, rng)
        challenger = _name(f"{seed}-{week}")
        seen = first_holdout + weekly_holdout * week
        verdict = _judged(
            rows.head(seen),
            challenger_right[:seen],
            champion_right[:seen],
            challenger,
            champion,
            turn_of(challenger.weights_sha256, champion.weights_sha256, decisions),
            rules,
            week,
        )
        decisions.append(Decision(champion.weights_sha256, challenger.weights_sha256))
        if verdict.may_promote():
            promoted += 1
            false_promotions += accuracy <= champion_accuracy
            champion, champion_right, champion_accuracy = challenger, challenger_right, accuracy
        elif (
            accuracy > champion_accuracy
            and verdict.evidence is not None
            and verdict.evidence.labels is not None
        ):
            asked.append(verdict.evidence.labels.labels_to_collect or 0)
    possible = FIRST_ACCURACY + GAIN * (weeks // 4)
    return Year(promoted, false_promotions, champion_accuracy, possible, tuple(asked))


def _answers(hardness: NDArray[np.float64], accuracy: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Right and wrong of a model: two of the same accuracy differ on about `DISCORDANT` of the images."""
    right = hardness < accuracy
    # A share of the right ones turns wrong and as many wrong ones right, so that the accuracy stays.
    turned = DISCORDANT / 4
    wrong_chance, right_chance = turned / accuracy, turned / (1 - accuracy)
    chance = rng.random(len(hardness))
    return np.where(right, chance >= wrong_chance, chance < right_chance)


def _holdout(size: int, first: int, weekly: int, rng: np.random.Generator) -> pd.DataFrame:
    week = np.maximum(0, np.ceil((np.arange(size) + 1 - first) / max(weekly, 1))).astype(int)
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(size)]
    batch = [f"week-{w:02}" for w in week]
    return pd.DataFrame(
        {
            "path": [f"batches/{b}/images/{i:06}.png" for i, b in enumerate(batch)],
            "sha256": digests,
            "batch": batch,
            "group": digests,
            "label": rng.choice(CLASSES, size),
        }
    )


def _judged(
    rows: pd.DataFrame,
    challenger_right: NDArray[np.bool_],
    champion_right: NDArray[np.bool_],
    challenger: ModelReference,
    champion: ModelReference,
    k: int,
    rules: GateRules,
    week: int,
) -> Verdict:
    labels = pd.Categorical(rows["label"], categories=CLASSES).codes.astype(np.int64)
    predictions = predictions_table(
        rows, challenger=_scores(labels, challenger_right), champion=_scores(labels, champion_right)
    )
    context = GateContext(
        project="year",
        classes=CLASSES,
        challenger=challenger,
        champion=champion,
        holdout_digest=holdout_digest(rows),
        holdout_share=0.25,
        leaks=pd.DataFrame(columns=list(LEAK_COLUMNS)),
        kind="decision",
        k=k,
        created_at=datetime(2025, 1, 6, tzinfo=UTC) + timedelta(weeks=week),
    )
    return gate_verdict(predictions, rules, context=context)


def _scores(labels: NDArray[np.int64], right: NDArray[np.bool_]) -> Scores:
    said = np.where(right, labels, (labels + 1) % len(CLASSES))
    probabilities = np.full((len(labels), len(CLASSES)), 0.1 / 3, dtype=np.float32)
    probabilities[np.arange(len(labels)), said] = 0.9
    return Scores(CLASSES, probabilities)


def _name(name: str) -> ModelReference:
    return ModelReference(weights_sha256=hashlib.sha256(name.encode()).hexdigest())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--years", type=int, default=5)
    arguments = parser.parse_args()
    rules = GateRules(bootstrap=Bootstrap(draws=1000))
    print("holdout       promotions  of them false  points gained of 13  labels asked for, median")
    for first, weekly in ((500, 25), (1000, 50), (2000, 100), (4000, 200), (8000, 400)):
        years = [
            simulate_year(seed=seed, first_holdout=first, weekly_holdout=weekly, rules=rules)
            for seed in range(arguments.years)
        ]
        gained = np.mean([100 * (year.reached - FIRST_ACCURACY) for year in years])
        asked = [labels for year in years for labels in year.labels_asked_for]
        print(
            f"{first:>5} + {weekly:>3}/week"
            f"{np.mean([year.promoted for year in years]):>9.1f}"
            f"{np.mean([year.false_promotions for year in years]):>15.2f}"
            f"{gained:>19.1f}"
            f"{np.median(asked) if asked else 0:>22,.0f}"
        )


if __name__ == "__main__":
    main()
