"""Interrupted is not failed: what a person or the machine stopped is over at once, and counts as no attempt."""

import os
import signal
import subprocess
import sys
import uuid

import dagster as dg
import pytest
from dagster._core.events import (
    DagsterEvent,
    DagsterEventType,
    EngineEventData,
    JobFailureData,
    RunFailureReason,
)
from dagster._core.test_utils import create_run_for_test

from sensors.unfinished_runs import end_stale_runs
from tests.world import World, shapes_project
from visionops.interruption import Interrupted
from visionops.serving.metric_records import run_samples
from visionops.tick import have_tried_again
from visionops_assets.champions.history import production
from visionops_assets.common import run_tags
from visionops_assets.evaluation.verdict_store import listed
from visionops_assets.promotion import promote as promoting
from visionops_assets.shells.job_execution import PROCESS_TAG, RunProcess
from visionops_assets.shells.run_outcomes import is_attempt, run_outcome
from visionops_assets.training.training_task import EpochReporter

pytestmark = pytest.mark.slow

NOBODY = 4194303
STUBBORN = """
from tests.open_files import more_than_selectable
from visionops import interruption
import time
with more_than_selectable():
    interruption.hear()
    for line in ["ready", "", ""]:
        try:
            print(line, flush=True)
            time.sleep(60)
        except BaseException:
            pass
"""


def newest_run(world: World) -> dg.DagsterRun:
    (run,) = world.instance.get_runs(limit=1)
    return run


def test_a_training_that_was_interrupted_three_times_is_none_the_worse_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish("week-01", 90, seed=1)
    report, keys = EpochReporter._report, set[str]()
    restarts = {DagsterEventType.STEP_UP_FOR_RETRY, DagsterEventType.STEP_RESTARTED}

    def interrupted(reporter: EpochReporter, epoch: object) -> None:
        report(reporter, epoch)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(EpochReporter, "_report", interrupted)
        for _ in range(world.project.trigger.attempts):
            with pytest.raises(Interrupted):
                world.tick()
            run = newest_run(world)
            assert run.status == dg.DagsterRunStatus.CANCELED
            assert run.tags[run_tags.OUTCOME] == run_tags.INTERRUPTED
            assert run.tags[run_tags.ATTEMPT] == "1"
            keys.add(run.tags["dagster/run_key"])
            again = world.instance.all_logs(run.run_id, of_type=restarts)
            assert not again
    assert len(keys) == world.project.trigger.attempts, "Dagster's daemon starts nothing twice of one key"
    assert world.tick().outcome == run_tags.PROMOTED
    assert newest_run(world).tags[run_tags.ATTEMPT] == "1"


def test_a_process_with_a_thousand_open_files_ends():
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        try:
            assert child.wait(60) == 130
        finally:
            child.kill()


def started_run(world: World) -> dg.DagsterRun:
    """A run whose process is gone."""
    tags = {run_tags.PROJECT: "shapes", run_tags.HOST: run_tags.host(), run_tags.ATTEMPT: "1"}
    run = create_run_for_test(world.instance, job_name="shapes_decide", tags=tags)
    process = EngineEventData(metadata={"pid": dg.MetadataValue.text(str(NOBODY))})
    world.instance.report_engine_event("Executing steps in process", run, process)
    started = DagsterEvent(event_type_value=DagsterEventType.RUN_START.value, job_name=run.job_name)
    world.instance.report_dagster_event(started, run.run_id)
    return run


def ended(world: World, run: dg.DagsterRun) -> dg.DagsterRun:
    found = world.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def test_a_process_that_is_gone_was_stopped_where_it_was_told_to_and_killed_where_not(world: World):
    told, killed = started_run(world), started_run(world)
    world.instance.report_run_canceling(told)
    assert set(end_stale_runs(world.instance)) == {told.run_id, killed.run_id}
    assert ended(world, told).status == dg.DagsterRunStatus.CANCELED
    assert ended(world, killed).status == dg.DagsterRunStatus.FAILURE
    assert is_attempt(ended(world, killed))


def test_a_run_that_ended_with_its_machine_was_no_attempt(world: World, monkeypatch: pytest.MonkeyPatch):
    run = started_run(world)
    monkeypatch.setattr("sensors.unfinished_runs.psutil.boot_time", lambda: float("inf"))
    end_stale_runs(world.instance)
    assert ended(world, run).status == dg.DagsterRunStatus.CANCELED
    assert not is_attempt(ended(world, run))


def test_a_run_of_the_daemon_whose_process_was_told_to_end_is_no_error(world: World):
    run = started_run(world)
    failure = DagsterEvent(
        event_type_value=DagsterEventType.RUN_FAILURE.value,
        job_name=run.job_name,
        event_specific_data=JobFailureData(
            error=None, failure_reason=RunFailureReason.UNEXPECTED_TERMINATION
        ),
    )
    world.instance.report_dagster_event(failure, run.run_id)
    assert ended(world, run).status == dg.DagsterRunStatus.FAILURE
    assert run_outcome(ended(world, run)) == run_tags.INTERRUPTED
    errors = [
        each.value for each in run_samples(world.instance, ["shapes"]) if each.labels[-1] == run_tags.ERROR
    ]
    assert errors == [0, 0]


def test_what_was_given_up_is_tried_again_when_a_person_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.projects = [shapes_project(trigger={"attempts": 1})]
    world.publish("week-01", 90, seed=1)

    def broken(*_: object, **__: object) -> None:
        raise ValueError("the cause")

    with monkeypatch.context() as patched:
        patched.setattr(promoting, "promote", broken)
        outcomes = [world.tick().outcome for _ in range(world.project.trigger.attempts)]
    assert outcomes == [run_tags.ERROR] * world.project.trigger.attempts
    given_up = world.tick()
    assert given_up.run_id is None and "`visionops tick shapes --again`" in given_up.reason
    have_tried_again(world.instance, world.project)
    assert world.tick().outcome == run_tags.PROMOTED


def test_a_run_that_was_made_and_never_began_is_over_with_its_process(world: World):
    run_id = str(uuid.uuid4())
    gone = RunProcess("another", NOBODY, "1")
    noted = {PROCESS_TAG: f"{run_id} {gone.boot} {gone.pid} {gone.began}"}
    tags = {run_tags.PROJECT: "shapes", run_tags.HOST: run_tags.host(), **noted}
    made = create_run_for_test(world.instance, job_name="shapes_decide", run_id=run_id, tags=tags)
    queued = create_run_for_test(
        world.instance, job_name="shapes_decide", tags={run_tags.HOST: run_tags.host()}
    )
    assert end_stale_runs(world.instance) == [made.run_id]
    assert ended(world, made).is_finished
    assert not ended(world, queued).is_finished


def test_a_decision_asked_once_more_after_it_promoted_is_the_one_that_did(promoted: World) -> None:
    """As after a run that was ended between the promotion and its own end."""
    world = promoted
    (partition,) = world.partitions()
    before = listed(world.registry.models.get("shapes").tags)
    done = world.run("evaluation", "champion", partition=partition, tags={run_tags.INTENT: run_tags.DECISION})
    assert done.success
    after = world.registry.models.get("shapes")
    assert listed(after.tags) == before, "judged against itself it would be undecided"
    assert len(production(after).intervals) == 1
