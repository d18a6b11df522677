"""A detector's production days in Dagster: what it answers goes through every asset, as a classifier's does."""

import io
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from logged import project
from PIL import Image
from production_world import ProductionWorld

from tests.world import CLASSES, draw
from visionops_assets.common.tables import to_parquet
from visionops_assets.monitoring.collection import collect
from visionops_assets.monitoring.prediction import (
    Picture,
    RunningModel,
    answer,
    log_rows,
    open_version,
    picture,
)
from visionops_assets.monitoring.production_day import stored_day
from visionops_assets.monitoring.reference import REFERENCE_ARTIFACT, reference_rows
from visionops_assets.monitoring.spool_files import spooled_labels, spooled_log

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)
ROWS = 60


def seen(model: RunningModel, seed: int, light: float = 1.0) -> list[Picture]:
    """What a camera sees, half as bright or not."""
    random, found = np.random.default_rng(seed), []
    for number in range(ROWS):
        buffer = io.BytesIO()
        pixels = draw(CLASSES[number % 3], random)[..., 0] * light
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        found.append(picture(f"{number}.png", buffer.getvalue(), model.shipped))
    return found


def test_a_detectors_day_is_logged_watched_counted_and_asked_labels_for(production: ProductionWorld):
    world = production
    # Every image is drawn by lot, so labels count as they come in the order of digests.
    given = project(since=f"{TODAY - timedelta(days=3)}", captures={"share": 1.0})
    given = given.model_copy(update={"task": "detection"})
    world.projects = [given]
    version = world.register(1)
    model = open_version(world.registry, version)
    box = {"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "class": CLASSES[0]}
    known = pd.Series([[box]] * ROWS, dtype=object)
    reference = reference_rows(model, [seen(model, 1)], known)
    world.registry.artifacts.put_bytes(version.run_id, REFERENCE_ARTIFACT, to_parquet(reference))

    dark = sorted(seen(model, 2, light=0.5), key=lambda each: each.sha256)
    times = [
        datetime.combine(YESTERDAY, datetime.min.time(), UTC) + timedelta(seconds=row) for row in range(ROWS)
    ]
    rows = log_rows(dark, answer(model, dark), device="camera-1", group="all", times=times)
    frames = [{**row, "frame": each.data} for row, each in zip(rows, dark, strict=True)]
    labels = [
        {"image_sha256": each.sha256, "day": YESTERDAY, "label": [box], "labelled_at": datetime.now(UTC)}
        for each in dark[:55]
    ]
    world.spool.put("shapes", "camera-1", spooled_log("detection", frames))
    world.spool.put("shapes", "labelling-team", spooled_labels("detection", labels))
    collect(given, lakefs=world.lakefs, spool=world.spool, lock=nullcontext(), now=datetime.now(UTC))
    assets = ("inference_log", "features", "drift_report", "performance", "labels_wanted")
    assert world.run(*assets, partition=f"{YESTERDAY}").success

    tables = {name: stored_day(world.artifacts, "shapes", name, f"{YESTERDAY}") for name in assets}
    log, features, drift, performance, wanted = (tables[name] for name in assets)
    assert log is not None and features is not None and drift is not None
    assert performance is not None and wanted is not None
    assert len(log) == len(features) == ROWS
    assert {"boxes_an_image", "mean_score", "box_area", "box_class"} <= set(drift["column"])
    assert "brightness" in set(drift["column"][drift["drifted"].astype(bool)])
    (counted,) = performance.to_dict("records")
    assert counted["labelled"] == 55
    assert counted["metric"].startswith("mAP") and 0 <= counted["realised"] <= 1
    assert pd.isna(counted["estimated"])
    assert set(wanted["image_sha256"]) == {each.sha256 for each in dark[55:]}
