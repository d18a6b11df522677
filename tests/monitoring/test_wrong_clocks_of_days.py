"""Production days whose runs or rows are dated in the future."""

import sqlite3
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from logged import file_of, project, row
from production_world import ProductionWorld

from resources import clocks
from sensors.production_log import Cursor, look
from visionops_assets.common import run_tags
from visionops_assets.monitoring.collection import collect

NOW = datetime.now(UTC).replace(hour=12)
HOUR = timedelta(hours=1)


def collected(world: ProductionWorld, *times: datetime) -> str:
    """The commit of rows of these times, collected now."""
    world.projects = [project(since=f"{NOW - timedelta(days=3):%Y-%m-%d}")]
    world.spool.put("shapes", "camera-1", file_of(*(row(n, timestamp=when) for n, when in enumerate(times))))
    collect(world.project, lakefs=world.lakefs, spool=world.spool, lock=nullcontext(), now=max(times))
    return world.lakefs.head("shapes-production").id


def date_runs(world: ProductionWorld, when: datetime) -> None:
    """Date the runs there are as a Dagster does whose clock shows this time."""
    (database,) = world.root.rglob("runs.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE runs SET create_timestamp = ?", [f"{when:%Y-%m-%d %H:%M:%S}"])


def days(found: dg.SensorResult) -> list[str]:
    return [request.partition_key or "" for request in found.run_requests or []]


def test_a_run_of_today_that_is_dated_in_the_future_holds_it_back_no_longer_than_any_other(
    production: ProductionWorld,
):
    world, today = production, f"{NOW:%Y-%m-%d}"
    head = collected(world, NOW)
    tags = {run_tags.PROJECT: "shapes", run_tags.DAY: today, run_tags.COMMIT: "earlier"}
    create_run_for_test(world.instance, job_name="shapes_days", tags=tags, status=dg.DagsterRunStatus.SUCCESS)
    date_runs(world, NOW + 5 * HOUR)
    every = world.project.production.look_every
    cursor = Cursor(commit=head, pending={today: head})
    first = look(world.project, world.lakefs, world.instance, cursor, NOW, "")
    assert days(first) == []
    cursor = Cursor.read(first.cursor)
    assert days(look(world.project, world.lakefs, world.instance, cursor, NOW + 0.9 * every, "")) == []
    assert days(look(world.project, world.lakefs, world.instance, cursor, NOW + 1.1 * every, "")) == [today]


def test_a_day_that_a_device_s_clock_began_too_early_is_looked_at_once_it_has_begun(
    production: ProductionWorld, monkeypatch: pytest.MonkeyPatch
):
    world = production
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    before, after = midnight - timedelta(minutes=2), midnight + timedelta(minutes=3)
    monkeypatch.setattr(clocks, "now", lambda: before)
    head = collected(world, before - HOUR, after)
    found = look(world.project, world.lakefs, world.instance, Cursor(), before, "")
    assert days(found) == [f"{before:%Y-%m-%d}"]
    cursor = Cursor.read(found.cursor)
    assert cursor.commit == head and f"{after:%Y-%m-%d}" in cursor.pending
    assert (
        days(look(world.project, world.lakefs, world.instance, cursor, after, ""))[-1] == f"{after:%Y-%m-%d}"
    )
