"""What counts as drift: shifts are noticed, chance is not, and what cannot be judged says so.

At 200 rows a day. Stated: at most 2% of days without a change have a drifted column (a dozen columns at 0.1% each),
and two of three such days, an alarm, are an exception; each shift here is noticed within three days.
"""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import production as simulated
import pytest
from production import Production, blur, blur_and_darkness, darkness, noise

from visionops_assets.config.production_rules import DriftRules
from visionops_assets.monitoring.drift import (
    DriftReference,
    jensen_shannon,
    jensen_shannon_by_chance,
    normed_wasserstein,
    wasserstein_by_chance,
)
from visionops_assets.monitoring.model_days import Day, alarm_states
from visionops_assets.monitoring.signals import EmbeddingReference

ROWS, RULES = 200, DriftRules()
Count = Callable[[int, int], int]
Case = tuple[Production, DriftReference]


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    """Digits, the same with a model that never saw a nine, and parts."""
    worlds = {"digits": simulated.digits(), "no nine": simulated.digits(unseen=9), "parts": simulated.parts()}
    return {
        name: (world, DriftReference(world.reference(), world.task, RULES)) for name, world in worlds.items()
    }


def as_day(reference: DriftReference, rows: pd.DataFrame, number: int) -> Day:
    found = reference.compare(rows)
    names = tuple(column.column for column in found.drifted)
    return Day(date(2025, 3, 1) + timedelta(number), found.rows, bool(names), names)


@pytest.mark.parametrize("name", ["digits", "parts"])
def test_days_without_a_change_are_quiet(cases: dict[str, Case], count: Count, name: str):
    world, reference = cases[name]
    days = [as_day(reference, world.day(ROWS, seed), seed) for seed in range(count(8, 200))]
    assert sum(bool(day.bad) for day in days) <= max(1, 0.02 * len(days))
    assert all(state.outcome == "PASS" for state in alarm_states(days, RULES.days))


def test_other_splits_of_the_digits_are_as_quiet(count: Count):
    drifted = []
    for split in range(1, 1 + count(1, 10)):
        world = simulated.digits(split)
        reference = DriftReference(world.reference(), world.task, RULES)
        drifted += [bool(reference.compare(world.day(ROWS, seed)).drifted) for seed in range(count(6, 20))]
    assert sum(drifted) <= max(1, 0.02 * len(drifted))


@pytest.mark.parametrize(
    ("name", "signs", "change"),
    [
        *(
            (name, signs, change)
            for name in ("digits", "parts")
            for signs, change in (
                ({"sharpness"}, {"shift": blur}),
                ({"brightness"}, {"shift": darkness}),
                ({"entropy"}, {"shift": noise}),
                ({"brightness", "sharpness"}, {"shift": blur_and_darkness, "cameras": 3}),
            )
        ),
        ("digits", {"prediction"}, {"prior": 6.0}),
        ("parts", {"boxes_an_image"}, {"prior": 6.0}),
        ("no nine", {"confidence"}, {"new": 0.2}),
        ("parts", {"embedding"}, {"new": 0.2}),
    ],
    ids=lambda value: (
        ""
        if isinstance(value, set)
        else value
        if isinstance(value, str)
        else "-".join(str(getattr(part, "__name__", part)) for part in value.values())
    ),
)
def test_each_shift_is_noticed_within_three_days(
    cases: dict[str, Case], name: str, signs: set[str], change: dict[str, Any]
):
    world, reference = cases[name]
    options = {key: value for key, value in change.items() if key != "prior"}
    if "prior" in change:
        options["weights"] = world.prior(change["prior"])
    days = [as_day(reference, world.day(ROWS, seed, **options), seed) for seed in range(3)]
    last = alarm_states(days, RULES.days)[-1]
    assert last.outcome == "FAIL"
    assert signs <= set(last.signs)


@pytest.mark.parametrize("name", ["digits", "parts"])
def test_of_two_models_on_one_day_only_the_one_that_drifts_is_named(cases: dict[str, Case], name: str):
    world, reference = cases[name]
    rows = pd.concat(
        [world.day(ROWS, 0, model="a" * 64), world.day(ROWS, 1, model="b" * 64, shift=blur_and_darkness)]
    )
    drifted = {model for model, part in rows.groupby("model_sha256") if reference.compare(part).drifted}
    assert drifted == {"b" * 64}


@pytest.mark.parametrize("name", ["digits", "parts"])
@pytest.mark.parametrize("rows", [0, 1, 49])
def test_a_day_with_too_few_rows_is_shown_and_not_judged(cases: dict[str, Case], name: str, rows: int):
    world, reference = cases[name]
    found = reference.compare(world.day(ROWS, 0, shift=darkness).head(rows))
    assert not found.compared
    assert not found.drifted
    assert found.share == 0
    assert all("at least 50 are needed" in column.note for column in found.columns)
    assert found.columns[0].note.startswith(f"{rows} values")


def test_a_column_without_usable_values_leaves_the_others_judged(cases: dict[str, Case]):
    world, reference = cases["digits"]
    day = world.day(ROWS, 0, shift=darkness)
    broken = day.assign(sharpness=np.nan, brightness=np.inf, saturation=0.5, embedding=None)
    found = {column.column: column for column in reference.compare(broken).columns}
    for name in ("sharpness", "brightness", "embedding"):
        assert (found[name].distance, found[name].missing) == (None, 1.0)
        assert found[name].note == "0 values, at least 50 are needed"
    assert found["contrast"].drifted
    assert found["saturation"].drifted, "constant in the reference, and another constant now"
    assert not reference.compare(world.day(ROWS, 0).assign(width=8.0)).drifted, "constant in both"


def test_a_few_infinite_values_count_as_missing(cases: dict[str, Case]):
    world, reference = cases["digits"]
    day = world.day(ROWS, 0)
    clean = reference.compare(day)
    day.loc[:9, "brightness"] = -np.inf
    found = reference.compare(day)
    assert found.columns[0].missing == pytest.approx(10 / ROWS)
    assert found.columns[0].distance == pytest.approx(clean.columns[0].distance, abs=0.05)


def test_a_reference_without_values_says_so(cases: dict[str, Case]):
    world, _ = cases["digits"]
    empty = DriftReference(world.reference().head(0), world.task, RULES)
    found = empty.compare(world.day(ROWS, 0))
    assert {column.note for column in found.columns} == {"the reference has no values"}


def test_an_embedding_of_another_width_is_not_compared(cases: dict[str, Case]):
    world, reference = cases["digits"]
    day = world.day(ROWS, 0)
    (found,) = (
        each
        for each in reference.compare(day.assign(embedding=[[1.0]] * ROWS)).columns
        if each.kind == "embedding"
    )
    assert found.distance is None


def test_a_sample_is_at_no_distance_from_itself_and_twice_the_sample_neither():
    values = np.random.default_rng(0).normal(size=300)
    assert normed_wasserstein(values, np.repeat(values, 2)) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(np.array([3, 0, 5]), np.array([6, 0, 10])) == pytest.approx(0, abs=1e-7)
    vectors = np.random.default_rng(0).normal(size=(100, 4))
    assert EmbeddingReference(vectors).distance(vectors) == pytest.approx(0, abs=1e-6)


def test_chance_alone_exceeds_its_quantile_as_often_as_stated(count: Count):
    """Both samples from one population, neither from the other: the rate at which a column of no drift is flagged."""
    random, trials = np.random.default_rng(0), count(8, 400)
    exceeded = {"wasserstein": 0, "jensen_shannon": 0, "embedding": 0}
    for _ in range(trials):
        one, other = random.normal(size=120), random.normal(size=80)
        exceeded["wasserstein"] += normed_wasserstein(one, other) > wasserstein_by_chance(one, 80, 0.95)
        mine, theirs = random.multinomial(120, [0.25] * 4), random.multinomial(80, [0.25] * 4)
        exceeded["jensen_shannon"] += jensen_shannon(mine, theirs) > jensen_shannon_by_chance(mine, 80, 0.95)
    for _ in range(trials // 4):
        vectors = EmbeddingReference(random.normal(size=(120, 8)))
        exceeded["embedding"] += vectors.distance(random.normal(size=(80, 8))) > vectors.by_chance(80, 0.95)
    most = 0.05 * trials + 3 * np.sqrt(trials * 0.05 * 0.95)
    assert exceeded["wasserstein"] <= most
    assert exceeded["jensen_shannon"] <= most
    assert exceeded["embedding"] <= 0.05 * trials / 4 + 3 * np.sqrt(trials / 4 * 0.05 * 0.95)
