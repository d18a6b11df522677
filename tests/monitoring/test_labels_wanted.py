"""Which images are asked for: doubtful, novel, of every class, each once, and only where there is a frame."""

import numpy as np
import pandas as pd
import production as simulated
import pytest
from production import Production

from visionops_assets.monitoring.labels_wanted import WANTED_COLUMNS, labels_wanted


def captured(world: Production, rows: int = 200, **options: float) -> pd.DataFrame:
    """A day of which every image was captured and none is labelled."""
    day = world.day(rows, 3, **options)  # type: ignore[arg-type]
    return day.assign(capture="captures/" + day["image_sha256"], truth=day["label"], label=None)


@pytest.mark.parametrize("make", [simulated.digits, simulated.parts])
def test_asked_for_are_captured_unlabelled_images_each_once(make):
    world = make()
    day = captured(world)
    day.loc[:49, "capture"] = None
    day["label"] = day["truth"].where(np.arange(len(day)) % 4 == 0, None)
    twice = pd.concat([day, day], ignore_index=True)
    found = labels_wanted(twice, world.reference(), world.task, 40)
    assert list(found.columns) == list(WANTED_COLUMNS)
    assert len(found) == 40
    assert found["image_sha256"].is_unique
    allowed = day[day["capture"].notna() & day["label"].isna()]
    assert set(found["image_sha256"]) <= set(allowed["image_sha256"])
    assert found["worth"].is_monotonic_decreasing


def test_images_the_model_gets_wrong_are_found_sooner_than_by_chance():
    world = simulated.digits()
    day = captured(world)
    wrong = set(day["image_sha256"][day["prediction"] != day["truth"]])
    found = labels_wanted(day, world.reference(), "classification", 40)
    share = found["image_sha256"].isin(wrong).mean()
    assert share > 2 * len(wrong) / len(day)


def test_images_of_a_new_class_are_found_sooner_than_by_chance():
    world = simulated.digits(unseen=9)
    day = captured(world, new=0.1)
    strange = set(day["image_sha256"][day["truth"] == "9"])
    found = labels_wanted(day, world.reference(), "classification", 40)
    assert found["image_sha256"].isin(strange).mean() > 2 * len(strange) / len(day)


def test_a_class_full_of_doubt_does_not_use_up_the_day():
    world = simulated.digits()
    day = captured(world)
    flat = pd.Series(
        [
            np.full(10, 0.1) if said == "1" else each
            for said, each in zip(day["prediction"], day["probabilities"], strict=True)
        ],
        dtype=object,
    )
    found = labels_wanted(day.assign(probabilities=flat), world.reference(), "classification", 30)
    assert found["prediction"].nunique() == 10
    assert found["prediction"].value_counts().max() == 3


def test_what_cannot_be_told_ranks_last_and_breaks_nothing():
    world = simulated.digits()
    day = captured(world, 20)
    day["embedding"] = None
    day["probabilities"] = pd.Series([np.full(10, np.nan), *day["probabilities"][1:]], dtype=object)
    found = labels_wanted(day, world.reference(), "classification", 20)
    assert found["novelty"].isna().all()
    assert found["image_sha256"].iloc[-1] == day["image_sha256"][0]
    nothing = labels_wanted(day.head(0), world.reference(), "classification", 20)
    assert nothing.empty
    assert list(nothing.columns) == list(WANTED_COLUMNS)
