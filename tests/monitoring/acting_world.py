"""Two versions of which one may be better, and production days that say so: what `response` acts on."""

import io
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from logged import project
from numpy.typing import NDArray
from PIL import Image
from production_world import SIDE, ProductionWorld

from resources.storage import ArtifactStore
from tests.world import CLASSES, draw
from visionops_assets.common.keys import asset_key
from visionops_assets.common.tables import write_table
from visionops_assets.config.production_rules import DriftRules
from visionops_assets.config.project import Project
from visionops_assets.monitoring.collection import collect
from visionops_assets.monitoring.labels_wanted import WANTED_COLUMNS, labels_wanted
from visionops_assets.monitoring.model_days import DRIFT_COLUMNS, PERFORMANCE_COLUMNS
from visionops_assets.monitoring.prediction import answer, log_rows, open_version, picture
from visionops_assets.monitoring.production_day import known_models, read_production_day, typed_table
from visionops_assets.monitoring.response.actions import Action, read_actions
from visionops_assets.monitoring.response.presentation import response_table
from visionops_assets.monitoring.response.respond import Responding, Response
from visionops_assets.monitoring.spool_files import spooled_log

NOW = datetime.now(UTC)
ROWS = 40
BOX = {"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}


def day(back: int) -> date:
    return NOW.date() - timedelta(back)


def learnt() -> NDArray[np.float32]:
    """Weights that tell the shapes apart: ridge regression on drawn ones."""
    random = np.random.default_rng(0)
    pixels = np.stack([draw(CLASSES[number % 3], random)[..., 0].ravel() for number in range(300)]) / 255
    truths = np.eye(3)[np.arange(300) % 3]
    weights = np.linalg.solve(pixels.T @ pixels + np.eye(SIDE * SIDE), pixels.T @ truths)
    return (weights * 10 / 255).astype(np.float32)


def acting_project(task: str = "classification", **drift: Any) -> Project:
    """Every image is captured; two bad days of 30 rows make an alarm."""
    found = project(since=day(9), captures={"share": 1.0})
    rules = DriftRules(**{"min_rows": 30, "labels": 20, **drift})
    gate = found.gate.model_copy(update={"min_holdout": 30})
    return found.model_copy(update={"drift": rules, "gate": gate, "task": task})


class ActingWorld:
    """The version before and the champion, in production for five days, of which the last two are logged."""

    def __init__(
        self, world: ProductionWorld, champion: Any = None, before: Any = None, **options: Any
    ) -> None:
        self.world = world
        world.projects = [acting_project(**options)]
        self.before, self.champion = world.register(1, before), world.register(2, champion)
        for back, version in ((8, self.before), (5, self.champion)):
            world.put_in_production(version, when=NOW - timedelta(back))

    def log(self, *, labelled: bool = True, nonsense: bool = False) -> None:
        """Log and judge the days: every one drifts. `nonsense` images have nothing to do with their labels."""
        for back in (2, 1):
            self._spool(back, labelled=labelled, nonsense=nonsense)
        world, store = self.world, self.world.artifacts
        collect(world.project, lakefs=world.lakefs, spool=world.spool, lock=nullcontext(), now=NOW)
        models = known_models(world.registry.models.versions("shapes"))
        for back in (2, 1):
            found = read_production_day(
                world.project,
                str(day(back)),
                lakefs=world.lakefs,
                artifacts=store,
                models=models,
                today=NOW.date(),
            )
            self._store("inference_log", back, found.table(world.project.task))
            wanted = labels_wanted(found.rows, found.rows.head(0), world.project.task, 20, 1.0)
            self._store("labels_wanted", back, typed_table(wanted, WANTED_COLUMNS))
            self.judge(back, drifted=True)

    def judge(self, back: int, *, drifted: bool) -> None:
        """Store what `drift_report` and `performance` would of a day."""
        where = {"model_sha256": self.champion.weights_sha256, "device_group": "all", "rows": ROWS}
        row = {
            **dict.fromkeys(DRIFT_COLUMNS),
            **where,
            "column": "brightness",
            "distance": 0.9 if drifted else 0.01,
            "threshold": 0.1,
            "effect": 0.1,
            "drifted": drifted,
            "missing": 0.0,
        }
        self._store("drift_report", back, typed_table(pd.DataFrame([row]), DRIFT_COLUMNS))
        known = {**dict.fromkeys(PERFORMANCE_COLUMNS), **where, "labelled": 0, "floor": 0.5, "below": False}
        self._store("performance", back, typed_table(pd.DataFrame([known]), PERFORMANCE_COLUMNS))

    def responding(self) -> Responding:
        world = self.world
        return Responding(world.project, world.lakefs, world.registry, world.artifacts, "test", NOW)

    def respond(self, back: int = 1) -> Response:
        found = self.responding().respond(day(back))
        response_table(found)
        return found

    def actions(self) -> list[Action]:
        return list(read_actions(self.world.registry.models.get("shapes").tags).entries)

    def done(self) -> list[str]:
        return [action.title() for action in self.actions()]

    def _spool(self, back: int, *, labelled: bool, nonsense: bool) -> None:
        random, model = np.random.default_rng(back), open_version(self.world.registry, self.champion, 1)
        task, seen, truths = self.world.project.task, [], [CLASSES[number % 3] for number in range(ROWS)]
        for number, truth in enumerate(truths):
            buffer = io.BytesIO()
            pixels = (
                random.integers(0, 256, (SIDE, SIDE), np.uint8) if nonsense else draw(truth, random)[..., 0]
            )
            Image.fromarray(pixels).save(buffer, "PNG")
            seen.append(picture(f"{number}.png", buffer.getvalue(), model.shipped))
        noon = datetime(*day(back).timetuple()[:3], 0, 5, tzinfo=UTC)
        times = [noon + timedelta(seconds=number) for number in range(ROWS)]
        rows = log_rows(seen, answer(model, seen), device="camera-1", group="all", times=times)
        labels = [[{**BOX, "class": truth}] if task == "detection" else truth for truth in truths]
        frames = [
            {**row, "frame": each.data, "label": label if labelled else None}
            for row, each, label in zip(rows, seen, labels, strict=True)
        ]
        self.world.spool.put("shapes", "camera-1", spooled_log(task, frames))

    def _store(self, asset: str, back: int, table: Any) -> None:
        store: ArtifactStore = self.world.artifacts
        store.write_json(asset_key("shapes", asset, str(day(back))), write_table(store, table))
