"""The demo's month: its story in any number of days, and a second run that adds nothing."""

import json
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from logged import project
from production_world import ProductionWorld

from tests.operations_table import require_told
from visionops import services
from visionops.demo import month
from visionops.demo.digits import LINES, ROWS_A_LINE, STORY, Cameras, chapter
from visionops.demo.month import Month, begun_month, live_days
from visionops_assets.common import run_tags
from visionops_assets.monitoring.production_day import stored_log

TODAY = datetime.now(UTC).date()


@pytest.mark.parametrize("days", [1, 3, 6, 30])
def test_the_story_begins_quietly_and_is_told_in_order(days: int):
    told = [STORY.index(chapter(number, days)) for number in range(days)]
    assert told[0] == 0
    assert told == sorted(told)
    if days >= 3:
        assert {0, 1, len(STORY) - 1} <= set(told), "quiet, a camera, other digits"


def test_a_day_shows_the_same_images_each_time_and_only_the_dirty_camera_shows_others():
    one, other = Cameras(), Cameras()
    dirty = next(number for number in range(30) if chapter(number, 30).dirty)
    pool = {image for number in range(8) for image in one.images(number, 30, LINES[0])}
    for line in LINES:
        seen = one.images(dirty, 30, line)
        assert len(seen) == ROWS_A_LINE
        assert seen == other.images(dirty, 30, line)
        assert pool.isdisjoint(seen) == (line == chapter(dirty, 30).dirty)


def test_a_month_that_was_begun_goes_on(tmp_path: Path):
    path = tmp_path / "demo-days.json"
    assert begun_month(path, 30, date(2026, 7, 1)) == Month(date(2026, 6, 1), 30)
    path.write_text(json.dumps({"first": "2026-06-01", "of": 30, "days": []}))
    assert begun_month(path, 5, date(2026, 7, 9)) == Month(date(2026, 6, 1), 30)


def test_a_second_run_adds_no_row_and_gives_the_same_account(
    production: ProductionWorld, monkeypatch: pytest.MonkeyPatch
):
    world, path = production, production.root / "demo-days.json"
    world.projects = [project(since=f"{TODAY - timedelta(days=9)}")]
    world.put_in_production(world.register(1))
    for name in ("lakefs", "registry", "spool", "artifacts"):
        monkeypatch.setattr(services, name, partial(getattr, world, name))
    said: list[str] = []
    first = live_days(world.definitions, world.instance, world.project, 1, path, said.append)
    head = world.lakefs.head("shapes-production", "main").id
    again = live_days(world.definitions, world.instance, world.project, 1, path, said.append)
    assert again == first
    assert world.lakefs.head("shapes-production", "main").id == head
    (account,) = first
    assert account.day == f"{TODAY - timedelta(days=1)}"
    assert account.rows == len(LINES) * ROWS_A_LINE
    log = stored_log(world.artifacts, "shapes", account.day)
    assert log is not None
    assert sorted(log["device_group"].unique()) == sorted(LINES)
    assert json.loads(path.read_text())["days"][0]["rows"] == account.rows
    assert sum(account.day in line for line in said) == 4, "the day's story and what was noticed, twice"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (dg.DagsterRunStatus.FAILURE, "was killed or ended with an error"),
        (dg.DagsterRunStatus.CANCELED, "was stopped"),
        (dg.DagsterRunStatus.STARTED, "is at work on it"),
    ],
)
def test_a_day_whose_run_was_killed_is_no_quiet_day(
    production: ProductionWorld, monkeypatch: pytest.MonkeyPatch, status: dg.DagsterRunStatus, said: str
):
    world, path = production, production.root / "demo-days.json"
    world.projects = [project(since=f"{TODAY - timedelta(days=9)}")]
    world.put_in_production(world.register(1))
    for name in ("lakefs", "registry", "spool", "artifacts"):
        monkeypatch.setattr(services, name, partial(getattr, world, name))
    day = f"{TODAY - timedelta(days=1)}"
    tags = {run_tags.PROJECT: "shapes", run_tags.DAY: day}
    run = create_run_for_test(world.instance, job_name="shapes_days", tags=tags, status=status)
    # Nobody looks at the day again.
    monkeypatch.setattr(month, "_tick_day", lambda *_: None)
    told: list[str] = []
    (account,) = live_days(world.definitions, world.instance, world.project, 1, path, told.append)
    assert account.problem and said in account.problem
    (line,) = [each for each in told if each.startswith(f"  {day}")]
    assert f"NOT LOOKED AT: run {run.run_id} {said}" in line and "quiet" not in line
    assert json.loads(path.read_text())["days"][0]["problem"] == account.problem
    if status == dg.DagsterRunStatus.CANCELED:
        require_told("a day of the demo's month was killed", line)
