"""`inference_log` in Dagster: a day is a partition, a commit asks for the days it touched, a month is one run."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from logged import file_of, label, project, row
from production_world import ProductionWorld

from sensors.production_log import Cursor
from visionops.tick import tick
from visionops_assets.common import run_tags
from visionops_assets.monitoring import production_day
from visionops_assets.monitoring.collection import collect
from visionops_assets.monitoring.inference_log import day_folder
from visionops_assets.monitoring.production_day import stored_log
from visionops_assets.monitoring.spool_files import spooled_labels

NOW = datetime.now(UTC)
LOG, LOGS = dg.AssetKey(["shapes", "inference_log"]), "shapes-production"


def day(back: int) -> str:
    return f"{NOW - timedelta(days=back):%Y-%m-%d}"


def put(world: ProductionWorld, model: str, *backs: int, device: str = "camera-1", number: int = 0) -> None:
    rows = [
        row(number, device, timestamp=NOW - timedelta(days=back, seconds=number), model_sha256=model)
        for back in backs
    ]
    world.spool.put("shapes", device, file_of(*rows))


class Watched:
    """A world whose sensor of production is evaluated as the daemon does; of what it asks only the log is made."""

    def __init__(self, world: ProductionWorld, cursor: str = "") -> None:
        self.world, self._cursor = world, cursor

    def tick(self) -> list[str]:
        """The days that the sensor asks for now."""
        repository = self.world.definitions.get_repository_def()
        sensor, resources = (
            repository.get_sensor_def("shapes_production"),
            repository.get_top_level_resources(),
        )
        with dg.build_sensor_context(
            instance=self.world.instance,
            instance_ref=self.world.instance.get_ref(),
            cursor=self._cursor,
            repository_def=repository,
            sensor_name=sensor.name,
            resources={name: resources[name] for name in sensor.required_resource_keys},
        ) as context:
            found = sensor.evaluate_tick(context)
        for event in found.asset_events:
            self.world.instance.report_runless_asset_event(event)
        self._cursor = found.cursor or self._cursor
        days = []
        for request in found.run_requests or []:
            assert request.partition_key is not None
            self.world.run("inference_log", partition=request.partition_key, tags=request.tags)
            days.append(request.partition_key)
        return days


def rows_of(world: ProductionWorld, day: str) -> int:
    found = stored_log(world.artifacts, "shapes", day)
    assert found is not None
    return len(found)


def test_a_change_that_nobody_told_of_is_told_by_the_next_look(production: ProductionWorld) -> None:
    """As after a kill between the alias and the end of its run, or a rollback while Dagster was away."""
    world, watched = production, Watched(production)
    assert watched.tick() == [] and not told(world)
    world.put_in_production(world.register(1))
    watched.tick()
    watched.tick()
    assert [each.metadata["version"].value for each in told(world)] == [1], "told, and once"
    world.put_in_production(world.register(2), group="dock")
    watched.tick()
    newest, first = told(world)
    assert (newest.metadata["version"].value, newest.metadata["group"].value) == (1, "all"), (
        "all run it still"
    )
    assert "dock" in str(newest.metadata["changed_last"].value)
    assert "dock" not in str(first.metadata["changed_last"].value)
    world.put_in_production(world.register(3))
    with at_work(world, "shapes_promote"):
        watched.tick()
    assert len(told(world)) == 2, "the run that changed it tells"
    watched.tick()
    assert told(world)[0].metadata["version"].value == 3


def told(world: ProductionWorld) -> list[dg.AssetMaterialization]:
    """What `in_production` was told, newest first."""
    key = dg.AssetKey(["shapes", "in_production"])
    found = world.instance.fetch_materializations(key, limit=10).records
    return [each.asset_materialization for each in found if each.asset_materialization is not None]


@contextmanager
def at_work(world: ProductionWorld, job: str) -> Iterator[None]:
    """A run of a job that has begun."""
    found = world.definitions.resolve_job_def(job)
    run = world.instance.create_run_for_job(found, tags=found.run_tags, status=dg.DagsterRunStatus.STARTED)
    yield
    world.instance.delete_run(run.run_id)


def test_a_commit_asks_for_the_days_it_touched_and_for_no_other(production: ProductionWorld):
    model = production.register(1).weights_sha256
    put(production, model, 1, 2)
    watched = Watched(production)
    assert watched.tick() == [day(2), day(1)]
    put(production, model, 2, number=1)
    assert watched.tick() == [day(2)]
    assert watched.tick() == []
    assert rows_of(production, day(2)) == 2
    old = [entry.path for entry in production.lakefs.objects(LOGS, "main", day_folder("shapes", day(1)))]
    production.lakefs.delete_many(LOGS, "main", old)
    production.lakefs.save(LOGS, "main", "too old to be kept", {})
    assert watched.tick() == []
    opened = production.definitions.load_asset_value(LOG, instance=production.instance, partition_key=day(1))
    assert opened["model_sha256"].tolist() == [model]
    assert str(opened["timestamp"].dtype).startswith("datetime64")


def test_a_lost_cursor_asks_only_for_what_is_new(production: ProductionWorld):
    model = production.register(1).weights_sha256
    put(production, model, 4)
    watched = Watched(production)
    assert watched.tick() == [day(4)]
    put(production, model, 3, 2, 1)
    assert watched.tick() == [day(3), day(2), day(1)]
    put(production, model, 3, number=1)
    assert watched.tick() == [day(3)]
    assert Watched(production).tick() == []
    put(production, model, 2, number=1)
    anew = Watched(production)
    assert anew.tick() == [day(2)]
    assert anew.tick() == []
    assert rows_of(production, day(2)) == 2


def test_labels_that_came_are_told_to_the_newest_day_though_the_cursor_was_lost(production: ProductionWorld):
    put(production, production.register(1).weights_sha256, 3, 1)
    watched = Watched(production)
    assert watched.tick() == [day(3), day(1)]
    said = label(0, "ring", day=day(3))
    production.spool.put("shapes", "labels", spooled_labels("classification", [said]))
    assert watched.tick() == [day(3)]
    anew = Watched(production)
    assert anew.tick() == [day(1)], "the day that has them was looked at, the day that decides was not"
    assert anew.tick() == []
    assert Watched(production).tick() == []


def test_a_day_that_is_not_over_is_looked_at_once_an_interval(production: ProductionWorld):
    model, watched = production.register(1).weights_sha256, Watched(production)
    put(production, model, 0)
    assert watched.tick() == [day(0)]
    put(production, model, 0, number=1)
    assert watched.tick() == []
    production.projects = [project(look_every=0)]
    assert watched.tick() == [day(0)]
    assert rows_of(production, day(0)) == 2


def test_a_day_that_failed_is_asked_for_again(production: ProductionWorld, monkeypatch: pytest.MonkeyPatch):
    put(production, production.register(1).weights_sha256, 1)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(production_day, "read_production_day", fail)
        found = tick(production.definitions, production.instance, [production.project])[-1]
    assert (found.partition, found.outcome) == (day(1), run_tags.ERROR)
    assert "the disk is full" in found.reason
    # The cursor is of a repository that is gone.
    watched = Watched(production, Cursor(commit="f" * 64).write())
    assert watched.tick() == [day(1)]
    assert watched.tick() == []
    assert rows_of(production, day(1)) == 1


def test_a_month_is_one_run_and_each_day_shows_its_own(production: ProductionWorld):
    production.projects = [project(since=day(6))]
    model = production.register(1).weights_sha256
    put(production, model, 4, 3, 1)
    put(production, "c" * 64, 3, device="camera-2")
    collect(production.project, lakefs=production.lakefs, spool=production.spool, lock=nullcontext(), now=NOW)
    job = dg.define_asset_job("by_hand", selection=dg.AssetSelection.assets(LOG))
    definitions = dg.Definitions.merge(production.definitions, dg.Definitions(jobs=[job]))
    tags = {"dagster/asset_partition_range_start": day(6), "dagster/asset_partition_range_end": day(0)}
    assert (
        definitions.resolve_job_def("by_hand")
        .execute_in_process(instance=production.instance, tags=tags)
        .success
    )
    assert [rows_of(production, day(back)) for back in range(6, -1, -1)] == [0, 0, 1, 1, 0, 1, 0]
    shown = production.latest("inference_log", day(3)).metadata
    assert (shown["rows"].value, shown["quarantined"].value) == (1, 1)
    passed = evaluations(production)
    assert passed[day(4)]
    assert not passed[day(3)], "a model that was never registered"
    assert not passed[day(2)], "nothing was logged"


def evaluations(world: ProductionWorld) -> dict[str, bool]:
    """Whether `log_is_complete` passed, by day; without what it said of the run as a whole."""
    key = dg.AssetCheckKey(LOG, "log_is_complete")
    records = world.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    made = [(one.partition, one.evaluation) for one in records]
    # What a run plans is a record too.
    return {day: found.passed for day, found in made if day and isinstance(found, dg.AssetCheckEvaluation)}
