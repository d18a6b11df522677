"""Holdouts made to order: predictions tables with known right and wrong answers."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from visionops_assets.evaluation.context import LEAK_COLUMNS
from visionops_assets.evaluation.gate import GateContext
from visionops_assets.evaluation.verdict import ModelReference
from visionops_assets.inference.predictions import Scores, holdout_digest, predictions_table

CLASSES = ("bolt", "nut", "screw")


def sha(name: object) -> str:
    """A digest that stands for something with this name."""
    return hashlib.sha256(str(name).encode()).hexdigest()


def model(name: object) -> ModelReference:
    """A model by a made-up identity."""
    return ModelReference(weights_sha256=sha(name))


def holdout(
    labels: Sequence[str], *, batches: Sequence[str] | None = None, groups: Sequence[str] | None = None
) -> pd.DataFrame:
    """Manifest rows: one batch and single groups unless told otherwise."""
    digests = [sha(i) for i in range(len(labels))]
    batch = list(batches) if batches is not None else ["week-01"] * len(labels)
    return pd.DataFrame(
        {
            "path": [f"batches/{b}/images/{i:06}.png" for i, b in enumerate(batch)],
            "sha256": digests,
            "batch": batch,
            "group": list(groups) if groups is not None else digests,
            "label": list(labels),
        }
    )


def answers(
    labels: Sequence[str], correct: np.ndarray, classes: Sequence[str] = CLASSES, wrong: int = 1
) -> Scores:
    """A model that is right where `correct` says so, and else names the class `wrong` places further."""
    codes = np.array([classes.index(label) for label in labels])
    said = np.where(correct, codes, (codes + wrong) % len(classes))
    probabilities = np.full((len(labels), len(classes)), 0.1 / (len(classes) - 1), dtype=np.float32)
    probabilities[np.arange(len(labels)), said] = 0.9
    return Scores(tuple(classes), probabilities)


def table(
    labels: Sequence[str],
    challenger: np.ndarray,
    champion: np.ndarray | None = None,
    *,
    classes: Sequence[str] = CLASSES,
    batches: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    **slices: Sequence[str],
) -> pd.DataFrame:
    """The predictions table of two models that are right where the bool arrays say so."""
    rows = holdout(labels, batches=batches, groups=groups).assign(**slices)
    return predictions_table(
        rows,
        challenger=answers(labels, challenger, classes),
        champion=None if champion is None else answers(labels, champion, classes),
        slices=tuple(slices),
    )


def no_leaks() -> pd.DataFrame:
    """The findings of a clean holdout."""
    return pd.DataFrame(columns=list(LEAK_COLUMNS))


def context(predictions: pd.DataFrame, **changes: Any) -> GateContext:
    """A first decision on this table: champion and challenger are two models."""
    told: dict[str, Any] = {
        "project": "parts",
        "classes": CLASSES,
        "challenger": model("challenger"),
        "champion": model("champion") if "champion_prediction" in predictions else None,
        "holdout_digest": holdout_digest(predictions),
        "holdout_share": 0.25,
        "leaks": no_leaks(),
        "kind": "decision",
        "k": 1,
        "created_at": datetime(2025, 1, 6, tzinfo=UTC),
    }
    return GateContext(**(told | changes))


def labels_in_turn(size: int, classes: Sequence[str] = CLASSES) -> list[str]:
    """Labels that take every class in turn."""
    return [classes[i % len(classes)] for i in range(size)]


def discordant(size: int, wins: int, losses: int, both_wrong: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which images challenger and champion get right: in `wins` and `losses` one of them alone, at random places."""
    kinds = np.repeat([1, 2, 3, 0], [wins, losses, both_wrong, size - wins - losses - both_wrong])
    kinds = np.random.default_rng(0).permutation(kinds)
    return np.isin(kinds, [0, 1]), np.isin(kinds, [0, 2])
