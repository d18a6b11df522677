"""Clocks that disagree, and things dated in the future, hold nothing back for longer than their rules say."""

import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster import EventLogEntry
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.test_utils import create_run_for_test

from resources import clocks
from resources.drop_places import Sighting
from sensors.drops import Cursor as DropCursor
from sensors.drops import look as look_at_drop
from sensors.readiness import Go, Newest, Wait, readiness
from sensors.unfinished_runs import end_stale_runs
from tests.world import World, shapes_project
from visionops_assets.common import run_tags
from visionops_assets.common.keys import verdict_key
from visionops_assets.config.project import Trigger
from visionops_assets.evaluation.verdict_store import VerdictAddress
from visionops_assets.shells.job_execution import PROCESS_TAG, RunProcess, note_process

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class Watch:
    """The commit sensor of a world, with its cursor, at times that are told by a clock of the test's."""

    def __init__(self, world: World, patched: pytest.MonkeyPatch) -> None:
        self.world, self.patched = world, patched
        self.cursor: str | None = None

    def look(self, at: datetime) -> SensorExecutionData:
        self.patched.setattr(clocks, "now", lambda: at)
        repository = self.world.definitions.get_repository_def()
        sensor = repository.get_sensor_def("shapes_commits")
        resources = repository.get_top_level_resources()
        with dg.build_sensor_context(
            instance=self.world.instance,
            instance_ref=self.world.instance.get_ref(),
            cursor=self.cursor,
            repository_def=repository,
            sensor_name=sensor.name,
            resources={name: resources[name] for name in sensor.required_resource_keys},
        ) as context:
            found = sensor.evaluate_tick(context)
        self.cursor = found.cursor
        for added in found.dynamic_partitions_requests or []:
            self.world.instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
        return found


@pytest.fixture
def watch(world: World, monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(world, monkeypatch)


def commit(world: World, when: datetime | None = None) -> None:
    """A commit of a sample on main, dated as its committer says."""
    from lakefs_sdk import CommitCreation

    world.lakefs.create_repository("shapes")
    world.lakefs.write("shapes", "main", "batches/week-01/images/0.png", str(when).encode())
    date = int(when.timestamp()) if when else None
    creation = CommitCreation(message="by hand", date=date)
    world.lakefs._connection.call(lambda client: client.commits_api.commit("shapes", "main", creation))


def use(world: World, **trigger: timedelta) -> None:
    world.projects = [shapes_project(trigger=trigger)]


def asked(found: SensorExecutionData) -> bool:
    return bool(found.run_requests)


def test_a_commit_of_a_server_whose_clock_is_ahead_has_no_negative_age(world: World, watch: Watch):
    use(world, quiet_for=10 * MINUTE)
    commit(world)
    found = watch.look(datetime.now(UTC) - timedelta(seconds=90))
    assert found.skip_message is not None and " 0 s old; waiting for 600 s" in found.skip_message


def test_the_age_of_a_commit_is_told_by_its_server_s_clock(world: World, watch: Watch):
    use(world, quiet_for=10 * MINUTE)
    commit(world)
    an_hour_ahead = datetime.now(UTC) + HOUR
    assert not asked(watch.look(an_hour_ahead)), "by our clock the commit is an hour old"


@pytest.mark.parametrize("ahead", [DAY, 365 * DAY])
def test_a_commit_that_is_dated_in_the_future_waits_as_long_as_any_other(
    world: World, watch: Watch, ahead: timedelta
):
    use(world, quiet_for=10 * MINUTE)
    now = datetime.now(UTC)
    commit(world, now + ahead)
    assert not asked(watch.look(now))
    assert not asked(watch.look(now + 9 * MINUTE))
    assert asked(watch.look(now + 11 * MINUTE))


def test_a_run_that_is_dated_in_the_future_holds_back_as_long_as_any_other(world: World, watch: Watch):
    use(world, at_most_every=HOUR)
    commit(world)
    tags = {run_tags.PROJECT: "shapes", run_tags.INTENT: run_tags.DECISION, run_tags.COMMIT: "another"}
    create_run_for_test(
        world.instance, job_name="shapes_decide", tags=tags, status=dg.DagsterRunStatus.SUCCESS
    )
    a_day_behind = datetime.now(UTC) - DAY
    found = watch.look(a_day_behind)
    assert found.skip_message is not None and "requested 0 s ago" in found.skip_message
    assert not asked(watch.look(a_day_behind + 59 * MINUTE))
    assert asked(watch.look(a_day_behind + 61 * MINUTE))


def test_new_samples_are_counted_from_the_last_decision_of_the_log_not_from_the_latest_date(
    world: World, watch: Watch
):
    """A decided commit that is dated in the future is no newer than those after it."""
    now = datetime.now(UTC)
    commit(world, now + 365 * DAY)
    watch.look(now)
    world.publish("week-02", 60, seed=2)
    watch.look(now)
    future, newest = world.partitions()
    assert newest < future
    for key in (future, newest):
        decided = VerdictAddress("identity", "FAIL", "run", "version")
        world.artifacts.write_json(verdict_key("decision", "shapes", key), asdict(decided))
    world.projects = [shapes_project(trigger={"min_new_samples": 50})]
    world.publish("week-03", 30, seed=3)
    found = watch.look(now)
    assert found.skip_message is not None and "30 new images" in found.skip_message


def test_negative_ages_are_none():
    def decide(age: timedelta, since: timedelta | None = None) -> Go | Wait:
        trigger = Trigger(quiet_for=10 * MINUTE, at_most_every=HOUR)
        return readiness("shapes", trigger, Newest("version", None, [], age, since, 1))

    young, soon = decide(-HOUR), decide(DAY, -HOUR)
    assert isinstance(young, Wait) and " 0 s old" in young.reason
    assert isinstance(soon, Wait) and " 0 s ago" in soon.reason


def test_a_batch_that_was_seen_by_a_clock_that_was_ahead_waits_as_long_as_any_other():
    project = shapes_project(drop={"quiet_for": 600})
    start, seen = 1_000_000.0, [Sighting("week-01", False, "1")]
    with dg.DagsterInstance.ephemeral() as instance:
        ahead = look_at_drop(project, seen, DropCursor(), instance, start + 86_400)
        cursor = DropCursor.read(ahead.cursor)
        back = look_at_drop(project, seen, cursor, instance, start)
        assert back.skip_reason is not None and "quiet for 0 of 600 s" in str(back.skip_reason.skip_message)
        assert look_at_drop(project, seen, DropCursor.read(back.cursor), instance, start + 601).run_requests


def test_a_run_of_a_living_process_is_left_alone_though_the_clock_was_set_forward(world: World):
    mine = started_run(world, os.getpid(), said_at=0.0)
    note_process(world.instance, mine.run_id)
    assert end_stale_runs(world.instance) == []
    unnoted = started_run(world, os.getpid(), said_at=0.0)
    assert end_stale_runs(world.instance) == [unnoted.run_id], "by the clock alone it would be dead"


def test_a_process_of_the_same_number_that_began_later_is_another(world: World):
    run = started_run(world, os.getpid(), said_at=datetime.now(UTC).timestamp())
    here = RunProcess.of(os.getpid())
    assert here is not None and here.is_alive()
    world.instance.add_run_tags(run.run_id, {PROCESS_TAG: f"{run.run_id} {here.boot} {here.pid} 1"})
    assert end_stale_runs(world.instance) == [run.run_id]
    assert ended(world, run).status == dg.DagsterRunStatus.FAILURE


def test_a_process_of_a_machine_that_was_started_anew_was_interrupted(world: World):
    run = started_run(world, os.getpid(), said_at=datetime.now(UTC).timestamp())
    world.instance.add_run_tags(run.run_id, {PROCESS_TAG: f"{run.run_id} another-boot {os.getpid()} 1"})
    assert end_stale_runs(world.instance) == [run.run_id]
    assert ended(world, run).tags[run_tags.OUTCOME] == run_tags.INTERRUPTED


def test_what_a_run_took_over_from_another_one_says_nothing_of_its_process(world: World):
    run = started_run(world, os.getpid(), said_at=datetime.now(UTC).timestamp() + 60)
    world.instance.add_run_tags(run.run_id, {PROCESS_TAG: "another-run another-boot 1 1"})
    assert end_stale_runs(world.instance) == []


def started_run(world: World, pid: int, *, said_at: float) -> dg.DagsterRun:
    """A run that a process said at a time to execute."""
    tags = {run_tags.PROJECT: "shapes", run_tags.HOST: run_tags.host()}
    run = create_run_for_test(
        world.instance, job_name="shapes_decide", tags=tags, status=dg.DagsterRunStatus.STARTED
    )
    event = DagsterEvent(
        event_type_value=DagsterEventType.ENGINE_EVENT.value,
        job_name=run.job_name,
        event_specific_data=EngineEventData(metadata={"pid": dg.MetadataValue.text(str(pid))}),
    )
    entry = EventLogEntry(
        error_info=None, level=10, user_message="", run_id=run.run_id, timestamp=said_at, dagster_event=event
    )
    world.instance.handle_new_event(entry)
    return run


def ended(world: World, run: dg.DagsterRun) -> dg.DagsterRun:
    found = world.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found
