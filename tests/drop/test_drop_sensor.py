"""When a batch is taken: by its marker, by quiet time, one at a time, once."""

from collections.abc import Iterator

import dagster as dg
import pytest

from resources.drop_places import Sighting
from sensors.drops import Cursor, look
from tests.world import shapes_project
from visionops_assets.common import run_tags

PROJECT = shapes_project(drop={"quiet_for": 600, "attempts": 2})
START = 1_000_000.0


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def marked(batch: str, fingerprint: str = "1") -> Sighting:
    return Sighting(batch, True, fingerprint)


def unmarked(batch: str, fingerprint: str = "1") -> Sighting:
    return Sighting(batch, False, fingerprint)


class Watch:
    """A sensor that keeps its cursor from look to look, as Dagster does."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.cursor = instance, Cursor()

    def look(self, *seen: Sighting, at: float = 0) -> dg.SensorResult:
        result = look(PROJECT, seen, self.cursor, self.instance, START + at)
        self.cursor = Cursor.read(result.cursor)
        return result

    def ran(self, request: dg.RunRequest, status: dg.DagsterRunStatus, outcome: str | None = None) -> str:
        """Record how a requested run ended."""
        tags = {**request.tags, **({run_tags.OUTCOME: outcome} if outcome else {})}
        run = dg.DagsterRun(job_name="shapes_take", tags=tags, status=status)
        self.instance.add_run(run)
        return run.run_id


@pytest.fixture
def watch(instance: dg.DagsterInstance) -> Watch:
    return Watch(instance)


def reason(result: dg.SensorResult) -> str:
    assert not result.run_requests
    return (result.skip_reason.skip_message if result.skip_reason else None) or ""


def test_a_marked_batch_is_taken_at_once_and_its_partition_added(watch: Watch):
    result = watch.look(marked("week-01"))
    (request,) = result.run_requests or []
    assert request.partition_key == "week-01"
    (added,) = result.dynamic_partitions_requests or []
    assert (added.partitions_def_name, list(added.partition_keys)) == ("shapes_batches", ["week-01"])


def test_a_batch_without_a_marker_waits_until_its_files_stayed_the_same_long_enough(watch: Watch):
    assert "quiet for 0 of 600 s" in reason(watch.look(unmarked("week-01")))
    assert "quiet for 599 of 600 s" in reason(watch.look(unmarked("week-01"), at=599))
    assert "quiet for 0 of 600 s" in reason(watch.look(unmarked("week-01", "another file came"), at=600))
    assert "quiet for 599 of 600 s" in reason(watch.look(unmarked("week-01", "another file came"), at=1199))
    (request,) = watch.look(unmarked("week-01", "another file came"), at=1200).run_requests or []
    assert request.partition_key == "week-01"


def test_batches_are_taken_one_at_a_time_by_name(watch: Watch):
    (first,) = watch.look(marked("week-02"), marked("week-01")).run_requests or []
    watch.ran(first, dg.DagsterRunStatus.STARTED)
    other = {"week-01", "week-02"} - {first.partition_key}
    (second,) = watch.look(marked("week-01"), marked("week-02")).run_requests or []
    assert second.partition_key == other.pop()


@pytest.mark.parametrize("outcome", [run_tags.PUBLISHED, run_tags.UNCHANGED, run_tags.REFUSED])
def test_a_batch_that_came_to_its_end_is_not_taken_again_even_with_a_lost_cursor(watch: Watch, outcome: str):
    (request,) = watch.look(marked("week-01")).run_requests or []
    refused = outcome == run_tags.REFUSED
    watch.ran(request, dg.DagsterRunStatus.FAILURE if refused else dg.DagsterRunStatus.SUCCESS, outcome)
    assert reason(watch.look(marked("week-01"))) == "no batch is waiting in the drop"
    watch.cursor = Cursor()
    assert reason(watch.look(marked("week-01"))) == "no batch is waiting in the drop"
    (again,) = watch.look(marked("week-01", "corrected")).run_requests or []
    assert again.run_key != request.run_key


def test_asked_twice_the_run_key_is_the_same(watch: Watch):
    (one,) = watch.look(marked("week-01")).run_requests or []
    watch.cursor = Cursor()
    (two,) = watch.look(marked("week-01")).run_requests or []
    assert one.run_key == two.run_key


def test_a_run_in_progress_is_waited_for(watch: Watch):
    (request,) = watch.look(marked("week-01")).run_requests or []
    run = watch.ran(request, dg.DagsterRunStatus.STARTED)
    assert reason(watch.look(marked("week-01"))) == f"week-01 is being taken by run {run}"


def test_a_run_that_ended_in_an_error_is_asked_for_again_up_to_the_stated_number(watch: Watch):
    keys = set()
    for _ in range(2):
        (request,) = watch.look(marked("week-01")).run_requests or []
        keys.add(request.run_key)
        watch.ran(request, dg.DagsterRunStatus.FAILURE, run_tags.ERROR)
    assert len(keys) == 2
    assert "week-01 failed 2 times with an error" in reason(watch.look(marked("week-01")))
    assert watch.look(marked("week-01", "touched")).run_requests


def test_a_run_that_a_person_cancelled_is_not_started_again(watch: Watch):
    (request,) = watch.look(marked("week-01")).run_requests or []
    run = watch.ran(request, dg.DagsterRunStatus.CANCELED)
    assert reason(watch.look(marked("week-01"))).startswith(
        f"cancelled: run {run} on week-01 was cancelled by hand"
    )


def test_a_name_that_cannot_be_a_batch_is_said_and_the_others_are_taken(watch: Watch):
    result = watch.look(marked("week 01"), marked("week-02"))
    assert [request.partition_key for request in result.run_requests or []] == ["week-02"]
    assert "'week 01' cannot name a batch" in reason(watch.look(marked("week 01")))


def test_what_left_the_drop_leaves_the_cursor(watch: Watch):
    watch.look(unmarked("week-01"))
    (request,) = watch.look(marked("week-02")).run_requests or []
    watch.ran(request, dg.DagsterRunStatus.SUCCESS, run_tags.PUBLISHED)
    watch.look(marked("week-02"))
    assert watch.cursor == Cursor({}, {"week-02": "1"})
    watch.look()
    assert watch.cursor == Cursor()
