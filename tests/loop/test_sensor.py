"""The commit sensor: partitions, one run, and quiet when there is nothing to do."""

import io
from collections.abc import Sequence

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData

from lakefs_local import discovery
from resources.lakefs.client import LakeFSResource
from sensors.new_commits import Cursor
from tests.world import World, shapes_project, write_batch
from visionops_assets.dataset.batch_publishing import Publisher


def evaluate(world: World, cursor: str | None = None) -> SensorExecutionData:
    """One evaluation of the sensor, as the daemon does, without carrying anything out."""
    repository = world.definitions.get_repository_def()
    sensor = repository.get_sensor_def("shapes_commits")
    resources = repository.get_top_level_resources()
    with dg.build_sensor_context(
        instance=world.instance,
        instance_ref=world.instance.get_ref(),
        cursor=cursor,
        repository_def=repository,
        sensor_name=sensor.name,
        resources={name: resources[name] for name in sensor.required_resource_keys},
    ) as context:
        return sensor.evaluate_tick(context)


def requested(found: SensorExecutionData) -> Sequence[dg.RunRequest]:
    """The runs that an evaluation asks for, where it may ask."""
    assert found.run_requests is not None
    return found.run_requests


def test_it_runs_by_default(world: World):
    sensor = world.definitions.get_repository_def().get_sensor_def("shapes_commits")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


@pytest.mark.slow
def test_a_lost_cursor_asks_for_nothing_twice(promoted: World):
    again = evaluate(promoted, cursor=None)
    assert not again.run_requests
    assert not again.dynamic_partitions_requests
    assert not again.asset_events
    assert again.cursor == evaluate(promoted, cursor=again.cursor).cursor


def test_the_run_key_is_the_same_however_often_it_is_asked(world: World):
    world.publish("week-01", 120, seed=1)
    first, second = evaluate(world), evaluate(world)
    assert [one.run_key for one in requested(first)] == [two.run_key for two in requested(second)]


def test_of_two_commits_in_one_second_the_later_one_is_trained(world: World):
    world.publish("week-01", 60, seed=1)
    world.publish("week-02", 60, seed=2)
    (request,) = requested(evaluate(world))
    assert request.tags["visionops/commit"] == world.lakefs.head("shapes").id


def test_an_empty_commit_and_one_without_samples_give_no_partition(promoted: World):
    world = promoted
    world.lakefs.write("shapes", "main", "README.md", b"about this data")
    world.lakefs.save("shapes", "main", "say what this is")
    found = evaluate(world)
    assert not found.dynamic_partitions_requests
    assert not found.run_requests


def test_a_half_imported_batch_on_a_side_branch_is_not_seen(promoted: World):
    world = promoted
    world.lakefs.create_branch("shapes", "ingest-week-02")
    world.lakefs.write("shapes", "ingest-week-02", "batches/week-02/images/a.png", b"half")
    world.lakefs.save("shapes", "ingest-week-02", "half of it")
    assert not evaluate(world).dynamic_partitions_requests
    world.publish("week-02", 60, seed=2)
    (asked,) = evaluate(world).dynamic_partitions_requests or []
    assert len(asked.partition_keys) == 1, "a merge is one version, not one for each commit of its branch"


def test_lakefs_down_is_a_skip_with_the_reason_and_the_cursor_stays(world: World):
    world.lakefs = LakeFSResource(
        endpoint="http://127.0.0.1:9", access_key_id="key", secret_access_key="secret"
    )
    found = evaluate(world, cursor=Cursor("abc", "key").write())
    assert found.skip_message is not None
    assert "does not answer" in found.skip_message
    assert not found.run_requests
    assert found.cursor == Cursor("abc", "key").write()


def test_a_repository_that_is_not_there_says_how_to_make_it(world: World):
    found = evaluate(world)
    assert found.skip_message is not None
    assert "lakeFS has no repository shapes yet: `visionops import shapes SOURCE" in found.skip_message


@pytest.mark.slow
def test_a_repository_that_was_deleted_is_wrong_until_it_is_made_anew(promoted: World):
    world = promoted
    world.lakefs._connection.call(lambda client: client.repositories_api.delete_repository("shapes"))
    gone = world.tick()
    assert (gone.outcome, gone.run_id) == ("error", None)
    assert "lakeFS has no repository shapes, though 1 of its dataset versions are known here" in gone.reason
    assert "visionops import shapes" in gone.reason
    world.publish("week-01", 60, seed=5)
    assert world.tick().run_id is not None, "another commit than the one that was decided"


def test_a_commit_is_not_trained_before_there_are_enough_new_samples(promoted: World):
    world = promoted
    world.projects = [shapes_project(trigger={"min_new_samples": 100})]
    world.publish("week-02", 60, seed=2)
    waited = world.tick()
    assert waited.run_id is None
    assert "60 new images" in waited.reason
    world.publish("week-03", 60, seed=3)
    assert len(requested(evaluate(world))) == 1


def test_a_run_whose_process_was_killed_is_marked_failed_and_asked_for_again(world: World):
    world.publish("week-01", 120, seed=1)
    (request,) = requested(evaluate(world))
    assert request.partition_key is not None
    world.instance.add_dynamic_partitions("shapes_dataset_versions", [request.partition_key])
    job = world.definitions.resolve_job_def("shapes_decide")
    run = world.instance.create_run_for_job(job, tags={**job.tags, **request.tags})
    no_process = EngineEventData(metadata={"pid": dg.MetadataValue.text("4194303")})
    world.instance.report_engine_event("Executing steps in process (pid: 4194303)", run, no_process)
    started = DagsterEvent(event_type_value=DagsterEventType.RUN_START.value, job_name=run.job_name)
    world.instance.report_dagster_event(started, run.run_id)
    found = evaluate(world)
    failed = world.instance.get_run_by_id(run.run_id)
    assert failed is not None
    assert failed.status == dg.DagsterRunStatus.FAILURE
    assert failed.tags["visionops/outcome"] == "error"
    assert [one.tags["visionops/attempt"] for one in requested(found)] == ["2"]


def test_the_embedded_server_of_one_home_is_shared_and_started_again_when_it_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    lakefs = LakeFSResource()
    try:
        lakefs.create_repository("shared")
        assert LakeFSResource().head("shared").id == lakefs.head("shared").id
        discovery.stop(tmp_path / "lakefs")
        assert lakefs.head("shared").message == "Repository created"
    finally:
        discovery.stop(tmp_path / "lakefs")


def test_importing_the_same_batch_again_changes_nothing(world: World):
    folder = write_batch(world.root / "week", 60, 1)
    publisher = Publisher(world.project, world.lakefs, world.artifacts)
    assert publisher.publish(folder, "week-01").outcome == "published"
    head = world.lakefs.head("shapes")
    assert publisher.publish(folder, "week-01").outcome == "unchanged"
    assert world.lakefs.head("shapes") == head


def test_a_batch_whose_annotations_another_version_of_parquet_wrote_is_the_same_batch(world: World):
    folder = write_batch(world.root / "drop" / "week-01", 12, seed=1)
    publisher = Publisher(world.project, world.lakefs, world.artifacts)
    publisher.publish(folder, "week-01")
    path = "batches/week-01/annotations/shapes.parquet"
    written = world.lakefs.read("shapes", "main", path)
    otherwise = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(written)), otherwise, compression="none")
    world.lakefs.write("shapes", "main", path, otherwise.getvalue())
    head = world.lakefs.save("shapes", "main", "Write them otherwise").id

    assert otherwise.getvalue() != written
    assert publisher.publish(folder, "week-01").outcome == "unchanged"
    assert world.lakefs.head("shapes").id == head
