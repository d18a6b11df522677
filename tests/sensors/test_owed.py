"""What failed or was cancelled is named until it is done, with the command that has it tried again."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from resources.drop import Drop
from sensors.readiness import Wait, waiting_for, was_cancelled, what_is_wrong
from sensors.unfinished_runs import owed
from tests.world import shapes_project
from visionops_assets.common import run_tags

AGAIN = "`visionops tick shapes --again`"
VERSION = {
    run_tags.INTENT: run_tags.DECISION,
    run_tags.COMMIT: "c",
    run_tags.TRAINING_VERSION: "t",
    "dagster/partition": "20260101T000000-0123456789ab",
}
DAY = {run_tags.DAY: "2026-01-01", run_tags.COMMIT: "c"}
BATCH = {run_tags.BATCH: "week-01", run_tags.DROP: "f"}
NAMES = {"20260101T000000-0123456789ab": VERSION, "2026-01-01": DAY, "week-01": BATCH}
KINDS = pytest.mark.parametrize(("name", "tags"), NAMES.items())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def told(instance: dg.DagsterInstance, tmp_path: Path) -> Callable[[], list[str]]:
    (tmp_path / "drop" / "shapes" / "week-01").mkdir(parents=True)
    drop = Drop(root=str(tmp_path / "drop"), staging=str(tmp_path / "staging"))
    return lambda: owed(instance, shapes_project(), drop)


def ran(instance: dg.DagsterInstance, tags: dict[str, str], how: str, **more: str) -> str:
    asked = {run_tags.PROJECT: "shapes", run_tags.ATTEMPT: "1", **tags, **more}
    run = create_run_for_test(instance, job_name="a_job", tags=asked)
    if how == "failed":
        instance.report_run_failed(run)
    elif how == "cancelled":
        instance.report_run_canceled(run)
    elif how == "done":
        instance.handle_new_event(_succeeded(run))
    return run.run_id


def _succeeded(run: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name)
    now = datetime.now(UTC).timestamp()
    return dg.EventLogEntry(None, 20, "", run.run_id, now, job_name=run.job_name, dagster_event=event)


@KINDS
def test_what_failed_is_named_with_its_last_run_until_it_is_done(
    instance: dg.DagsterInstance, told: Callable[[], list[str]], name: str, tags: dict[str, str]
) -> None:
    assert told() == []
    ran(instance, tags, "failed")
    (once,) = told()
    assert name in once and "failed once with an error, and is tried again by the next tick" in once
    ran(instance, tags, "failed")
    last = ran(instance, tags, "failed")
    (three,) = told()
    assert name in three and "failed 3 times with an error" in three and last in three
    assert AGAIN in three
    ran(instance, tags, "done")
    assert told() == []


@KINDS
def test_what_a_person_cancelled_is_named_with_the_command(
    instance: dg.DagsterInstance, told: Callable[[], list[str]], name: str, tags: dict[str, str]
) -> None:
    run = ran(instance, tags, "cancelled")
    (cancelled,) = told()
    assert f"run {run} on" in cancelled and name in cancelled and AGAIN in cancelled
    ran(instance, tags, "", **{run_tags.OUTCOME: ""})
    assert told() == [], "it is being done"


@KINDS
def test_what_was_interrupted_or_run_by_hand_is_no_failure(
    instance: dg.DagsterInstance, told: Callable[[], list[str]], name: str, tags: dict[str, str]
) -> None:
    ran(instance, tags, "cancelled", **{run_tags.OUTCOME: run_tags.INTERRUPTED})
    assert told() == []
    by_hand = create_run_for_test(instance, job_name="a_job", tags={run_tags.PROJECT: "shapes", **tags})
    instance.report_run_failed(by_hand)
    assert told() == []


def test_a_refusal_is_none_and_a_batch_that_was_taken_away_is_none(
    instance: dg.DagsterInstance, told: Callable[[], list[str]], tmp_path: Path
) -> None:
    ran(instance, VERSION, "failed", **{run_tags.OUTCOME: run_tags.REFUSED})
    assert told() == []
    ran(instance, BATCH, "failed")
    assert len(told()) == 1
    (tmp_path / "drop" / "shapes" / "week-01").rmdir()
    assert told() == []


def test_a_tick_tells_what_is_wrong_first_then_what_was_cancelled() -> None:
    waits = [Wait("plain"), Wait("stopped", cancelled=True), Wait("broken", wrong=True)]
    assert what_is_wrong(waiting_for(waits, "").skip_message) == "broken; stopped; plain"
    said = waiting_for(waits[:2], "").skip_message
    assert was_cancelled(said) and what_is_wrong(said) is None
    assert not was_cancelled(waiting_for(waits[:1], "").skip_message)
