"""Pictures of a verdict are PNG files that fit into metadata."""

import io

import numpy as np
import pandas as pd
import pytest
from holdouts import context, discordant, labels_in_turn, table
from PIL import Image

from visionops_assets.config.gate_rules import Bootstrap, GateRules
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.presentation import confusion_picture, interval_picture


def opened(png: bytes) -> Image.Image:
    assert len(png) < 50_000
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    return picture


@pytest.mark.parametrize("classes", [1, 3, 10, 40, 200])
def test_a_confusion_matrix_of_any_size_fits(classes: int) -> None:
    names = [f"a rather long class name {i}" for i in range(classes)]
    counts = np.random.default_rng(0).poisson(1, (classes, classes)) + 50 * np.eye(classes, dtype=int)
    picture = opened(confusion_picture(pd.DataFrame(counts, index=names, columns=names)))
    assert min(picture.size) >= 300


def test_a_class_without_images_is_drawn() -> None:
    opened(confusion_picture(pd.DataFrame([[5, 0], [0, 0]], index=["a", "b"], columns=["a", "b"])))


@pytest.mark.parametrize(("wins", "losses"), [(40, 5), (5, 5), (5, 40), (0, 0)])
def test_the_interval_of_every_outcome_is_drawn(wins: int, losses: int) -> None:
    labels = labels_in_turn(300)
    predictions = table(labels, *discordant(300, wins, losses))
    rules = GateRules(critical_slices=("class=nut",), bootstrap=Bootstrap(draws=1000))
    png = interval_picture(gate_verdict(predictions, rules, context=context(predictions)))
    assert png is not None
    opened(png)


def test_without_a_champion_there_is_no_interval() -> None:
    labels = labels_in_turn(300)
    predictions = table(labels, np.arange(300) > 10)
    assert interval_picture(gate_verdict(predictions, GateRules(), context=context(predictions))) is None
