"""The whole circle: frames of production are asked for, labelled, audited, learnt from, and what learnt them runs."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from production_world import ProductionWorld
from typer.testing import CliRunner

from tests.world import CLASSES, World, draw, shapes_project
from visionops import services
from visionops.cli import predict
from visionops.tick import tick
from visionops_assets.dataset.batch_publishing import Publisher
from visionops_assets.monitoring import watch
from visionops_assets.monitoring.prediction import answer, log_rows, open_version, picture, running_version
from visionops_assets.monitoring.production_day import stored_day
from visionops_assets.monitoring.response.actions import Action, actions_json, read_actions
from visionops_assets.monitoring.spool_files import spooled_log

ROWS = 100
DAY = datetime.now(UTC).date() - timedelta(1)


def dark_day(world: ProductionWorld, day: date) -> dict[str, str]:
    """What a camera whose light failed sees on a day, as the champion answers it; the truth by file name."""
    random, model = (
        np.random.default_rng(day.toordinal()),
        open_version(world.registry, running_version(world.registry, "shapes"), 1),
    )
    seen, truths = [], {}
    for number in range(ROWS):
        buffer = io.BytesIO()
        pixels = draw(CLASSES[number % 3], random)[..., 0]
        Image.fromarray(255 - pixels // 2).save(buffer, "PNG")
        seen.append(picture(f"{number}.png", buffer.getvalue(), model.shipped))
        truths[f"{seen[-1].sha256}.png"] = CLASSES[number % 3]
    midnight = datetime(*day.timetuple()[:3], tzinfo=UTC)
    times = [midnight + timedelta(seconds=number) for number in range(ROWS)]
    rows = log_rows(seen, answer(model, seen), device="camera-1", group="all", times=times)
    frames = [{**row, "frame": each.data} for row, each in zip(rows, seen, strict=True)]
    world.spool.put("shapes", "camera-1", spooled_log("classification", frames))
    return truths


def actions(world: ProductionWorld) -> list[Action]:
    return list(read_actions(world.registry.models.get("shapes").tags).entries)


@pytest.mark.slow
def test_a_frame_is_asked_for_labelled_audited_learnt_from_and_its_day_counted(
    promoted: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = shapes_project(
        production={"since": DAY, "captures": {"share": 1.0}},
        drift={"min_rows": 30, "labels": ROWS, "days": {"alarm": 1, "of": 1}},
    )
    world = ProductionWorld(promoted.root, promoted.lakefs, promoted.registry, promoted.instance, [project])
    # Evidently's page has a test of its own, and takes seconds to draw.
    monkeypatch.setattr(watch, "report_page", lambda *_: "a page")
    truths = dark_day(world, DAY)
    ticks = tick(world.definitions, world.instance, [project])
    assert [each.outcome for each in ticks] == [None, "logged"]
    asked = next(action for action in actions(world) if action.kind == "labels")
    assert asked.images == ROWS and asked.signal in ("drift", "estimated")
    assert "brightness" in asked.why or "estimated" in asked.why

    for name, service in (("project", project), ("lakefs", world.lakefs), ("artifacts", world.artifacts)):
        monkeypatch.setattr(services, name, lambda *_, service=service: service)
    folder = tmp_path / "to-label"
    ran = CliRunner().invoke(predict.labels_app, ["export", "shapes", "--to", str(folder), "--day", str(DAY)])
    assert ran.exit_code == 0, ran.output
    assert f"{ROWS} images in" in ran.output
    table = folder / "labels.csv"
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == ROWS
    with table.open("w", newline="") as stream:
        written = csv.DictWriter(stream, rows[0])
        written.writeheader()
        written.writerows({**row, "label": truths[Path(row["path"]).name]} for row in rows)

    assert Publisher(project, world.lakefs, world.artifacts).publish(folder, "asked-for") is not None
    decided = tick(world.definitions, world.instance, [project])[0]
    assert decided.outcome == "promoted", decided.reason
    assert world.champion() == 2

    (answer_,) = [action for action in actions(world) if action.kind == "labelled"]
    assert answer_.about == asked.identity
    assert answer_.images == ROWS
    assert answer_.commit == world.lakefs.head("shapes", "main").id
    assert "batch asked-for has 100 of 100 images asked for" in answer_.why
    shown = {each["identity"]: each for each in actions_json(actions(world))}
    assert shown[asked.identity]["answered_by"] == [answer_.commit]

    performance = stored_day(world.artifacts, "shapes", "performance", str(DAY))
    assert performance is not None
    assert performance["labelled"].tolist() == [ROWS]
    assert performance["realised"].notna().all()
