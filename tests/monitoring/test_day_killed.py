"""A day whose materialisation dies half way is made again, and is what it would have been."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytest
from acting_world import ActingWorld, day
from production_world import ProductionWorld

from resources.storage import ArtifactStore
from visionops_assets.monitoring.production_day import stored_day

ASSETS = ("inference_log", "features", "drift_report", "performance", "labels_wanted", "response")


class Killed(BaseException):
    """The process is gone: nothing catches it, as nothing catches SIGKILL."""


@contextmanager
def dying_at(asset: str, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Die when the table of an asset is written, and its rows are."""
    original = ArtifactStore.write_json

    def write_json(store: ArtifactStore, key: str, content: Any) -> None:
        if f"/{asset}/" in key:
            raise Killed
        original(store, key, content)

    with patch.context() as patched:
        patched.setattr(ArtifactStore, "write_json", write_json)
        yield


def tables(world: ProductionWorld) -> dict[str, pd.DataFrame | None]:
    return {asset: stored_day(world.artifacts, "shapes", asset, str(day(1))) for asset in ASSETS}


def test_a_day_that_died_anywhere_is_made_again_and_acts_once(
    production: ProductionWorld, monkeypatch: pytest.MonkeyPatch, count: Callable[[int, int], int]
):
    # The day itself cannot be judged, its model having no holdout: the alarm is of the day before.
    acting = ActingWorld(production, days={"alarm": 1, "of": 1})
    acting.log(labelled=False)
    for asset in ASSETS:
        production.artifacts.path(f"assets/shapes/{asset}/{day(1)}.json").unlink(missing_ok=True)
    for asset in ASSETS[3 :: count(3, 1)]:
        with dying_at(asset, monkeypatch):
            assert not production.run(*ASSETS, partition=str(day(1))).success
        there = tables(production)
        assert [name for name in ASSETS if there[name] is not None] == list(ASSETS[: ASSETS.index(asset)])
    assert production.run(*ASSETS, partition=str(day(1))).success
    made = tables(production)
    acted = acting.actions()
    assert [action.kind for action in acted] == ["labels", "alert"]
    assert all(table is not None for table in made.values())
    assert production.run(*ASSETS, partition=str(day(1))).success
    for name, table in tables(production).items():
        assert table is not None and table.drop(columns="response", errors="ignore").equals(
            made[name].drop(columns="response", errors="ignore")  # type: ignore[union-attr]
        ), name
    assert acting.actions() == acted
