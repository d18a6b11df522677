"""Stored tables of several days become the days of each model on each device group."""

from datetime import date, timedelta

import pandas as pd
import pytest

from visionops_assets.monitoring.drift import ColumnDrift, DayDrift
from visionops_assets.monitoring.model_days import (
    DRIFT_COLUMNS,
    PERFORMANCE_COLUMNS,
    Where,
    drift_days,
    drift_rows,
    no_comparison,
    performance_days,
    performance_metrics,
    performance_row,
)
from visionops_assets.monitoring.monitoring_task import Performance
from visionops_assets.monitoring.performance import DayPerformance
from visionops_assets.monitoring.production_day import typed_table

FIRST = date(2026, 6, 1)
LEFT, RIGHT = Where("a" * 64, "left"), Where("a" * 64, "right")


def column(name: str, distance: float | None) -> ColumnDrift:
    return ColumnDrift(name, "data", "wasserstein", distance, 0.1, 0.2, 0.0)


def stored(*parts: pd.DataFrame) -> pd.DataFrame:
    """The table of a day as it is read again."""
    return typed_table(pd.concat(parts, ignore_index=True), DRIFT_COLUMNS).to_pandas()


def test_the_worst_column_comes_first_and_groups_stay_apart():
    bad = DayDrift(200, (column("contrast", 0.3), column("sharpness", 0.9), column("entropy", 0.1)))
    quiet, silent = DayDrift(150, (column("contrast", 0.1),)), DayDrift(3, (column("contrast", None),))
    tables = {
        FIRST: stored(drift_rows(LEFT, bad), drift_rows(RIGHT, quiet)),
        FIRST + timedelta(1): stored(drift_rows(LEFT, silent), no_comparison(RIGHT, 20, "no holdout")),
    }
    found = drift_days(tables)
    assert [(day.bad, day.rows, day.signs) for day in found[LEFT]] == [
        (True, 200, ("sharpness", "contrast")),
        (None, 3, ()),
    ]
    assert [(day.bad, day.rows) for day in found[RIGHT]] == [(False, 150), (None, 20)]


def test_an_empty_day_is_a_day_of_nobody():
    empty = typed_table(pd.DataFrame(columns=list(DRIFT_COLUMNS)), DRIFT_COLUMNS).to_pandas()
    assert drift_days({FIRST: empty}) == {}
    assert (
        performance_days(
            {
                FIRST: typed_table(
                    pd.DataFrame(columns=list(PERFORMANCE_COLUMNS)), PERFORMANCE_COLUMNS
                ).to_pandas()
            }
        )
        == {}
    )


def test_what_is_below_the_floor_says_whether_it_was_counted():
    counted = Performance("accuracy", 0.7, 0.65, 0.75, 80, "counted")
    guessed = Performance("accuracy", 0.95, 0.9, 0.97, 200, "estimated")
    rows = [
        performance_row(LEFT, DayPerformance(200, 80, counted, guessed), 0.85),
        performance_row(RIGHT, DayPerformance(200, 0, None, None), 0.85),
    ]
    table = typed_table(pd.DataFrame(rows), PERFORMANCE_COLUMNS).to_pandas()
    days = performance_days({FIRST: table})
    assert days[LEFT][0].bad
    assert days[LEFT][0].signs == ("realised accuracy 0.700 below 0.850",)
    assert days[RIGHT][0].bad is None
    assert performance_metrics(table) == {LEFT: {"realised": 0.7, "estimated": 0.95}, RIGHT: {}}


@pytest.mark.parametrize("group", ["../up", "a/b", "Halle 3: links", "ü"])
def test_a_group_of_any_name_is_one_step_of_a_path(group: str):
    plain = Where("a" * 64, group).plain_group()
    assert plain
    assert not set(plain) & set("/.: ü")
