"""What ran in a verb's own process is seen where the UI looks for it, asked through GraphQL as its pages ask."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.selector import InstigatorSelector
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration
from dagster_graphql.test.utils import execute_dagster_graphql

from resources.home import ROOT
from tests.world import World
from visionops.runs import run_job
from visionops_assets.common import run_tags

LOCATION = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"][0]["python_file"][
    "location_name"
]
REPOSITORY = "__repository__"
Ask = Callable[..., Any]

LANDING_PAGE = """
query CompletedRunTimelineQuery($completedFilter: RunsFilter!, $limit: Int!) {
  completed: runsOrError(filter: $completedFilter, limit: $limit) {
    ... on Runs { results { runId pipelineName repositoryOrigin { repositoryName repositoryLocationName } } }
  }
}"""
RUNS_OF_A_JOB = """
query RunsFeedRootQuery($filter: RunsFilter, $limit: Int!) {
  runsFeedOrError(limit: $limit, filter: $filter, view: RUNS) {
    ... on RunsFeedConnection { results { id } }
  }
}"""
SENSOR = """
query TickHistoryQuery($instigationSelector: InstigationSelector!) {
  instigationStateOrError(instigationSelector: $instigationSelector) {
    ... on InstigationState {
      runs(limit: 20) { runId }
      ticks(limit: 20) { status skipReason runIds runKeys cursor error { message } timestamp endTimestamp }
    }
  }
}"""

LATEST = """
query AssetsLatestInfo($keys: [AssetKeyInput!]!) {
  assetsLatestInfo(assetKeys: $keys) { latestRun { id status } latestMaterialization { runId } }
}"""

STALE = """
query AssetStaleStatusDataQuery($keys: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $keys) { staleStatus staleCauses { reason dependency { path } } }
}"""


@pytest.fixture
def workspace(promoted: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The code location that `visionops up` serves, on the world's Dagster, lakeFS and registry."""
    projects = tmp_path / "projects"
    projects.mkdir()
    content = promoted.project.model_dump(mode="json", exclude_none=True)
    (projects / "shapes.yaml").write_text(yaml.safe_dump(content))
    lakefs = promoted.lakefs
    for name, value in {
        "VISIONOPS_HOME": promoted.root,
        "VISIONOPS_PROJECTS": projects,
        "LAKEFS_ENDPOINT": lakefs.endpoint,
        "LAKEFS_ACCESS_KEY_ID": lakefs.access_key_id,
        "LAKEFS_SECRET_ACCESS_KEY": lakefs.secret_access_key,
    }.items():
        monkeypatch.setenv(name, str(value))
    target = LoadableTargetOrigin(python_file=str(ROOT / "definitions.py"), working_directory=str(ROOT))
    location = InProcessCodeLocationOrigin(target, location_name=LOCATION)
    with WorkspaceProcessContext(promoted.instance, InProcessWorkspaceLoadTarget(location)) as context:
        yield context


@pytest.fixture
def ask(workspace: Any) -> Ask:
    """What a page of the UI gets for a query."""

    def asked(query: str, **variables: Any) -> Any:
        result = execute_dagster_graphql(workspace.create_request_context(), query, variables)
        assert not result.errors, result.errors
        (answer,) = result.data.values()
        return answer

    return asked


def sensor(ask: Ask, name: str = "shapes_commits") -> Any:
    selector = {"name": name, "repositoryName": REPOSITORY, "repositoryLocationName": LOCATION}
    return ask(SENSOR, instigationSelector=selector)


def on_the_landing_page(ask: Ask) -> dict[str, str]:
    """Runs and their jobs, of which the timeline keeps those whose repository it knows."""
    filters = {"statuses": ["FAILURE", "SUCCESS", "CANCELED"], "createdBefore": 4e9, "updatedAfter": 0}
    found = ask(LANDING_PAGE, completedFilter=filters, limit=100)["results"]
    here = {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION}
    return {run["runId"]: run["pipelineName"] for run in found if run["repositoryOrigin"] == here}


def on_the_jobs_page(ask: Ask, job: str) -> list[str]:
    tags = [{"key": ".dagster/repository", "value": f"{REPOSITORY}@{LOCATION}"}]
    found = ask(RUNS_OF_A_JOB, filter={"pipelineName": job, "tags": tags}, limit=100)
    return [run["id"] for run in found["results"]]


def test_a_run_of_tick_is_on_the_landing_page_and_on_the_pages_of_its_job_and_sensor(
    promoted: World, ask: Ask
) -> None:
    (run,) = promoted.instance.get_runs()
    assert on_the_landing_page(ask) == {run.run_id: "shapes_decide"}
    assert on_the_jobs_page(ask, "shapes_decide") == [run.run_id]
    shown = sensor(ask)
    assert shown["runs"] == [{"runId": run.run_id}]
    (looked,) = shown["ticks"]
    assert (looked["status"], looked["runIds"]) == ("SUCCESS", [run.run_id])
    assert looked["runKeys"] == [run.tags["dagster/run_key"]]
    assert looked["timestamp"] <= looked["endTimestamp"] <= run_started(promoted, run.run_id)
    assert [each["status"] for each in sensor(ask, "shapes_drops")["ticks"]] == ["SKIPPED"]

    said = promoted.tick().reason
    newest = sensor(ask)["ticks"][0]
    assert (newest["status"], newest["skipReason"], newest["runIds"]) == ("SKIPPED", said, [])


def run_started(world: World, run_id: str) -> float:
    (record,) = world.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
    assert record.start_time is not None
    return record.start_time


def test_the_run_of_another_verb_is_seen_from_whatever_folder_it_was_started(
    promoted: World, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"shapes_roll_back": {"why": "it blinks", "actor": "ada", "to": 1}}
    ran = run_job(promoted.definitions, promoted.instance, "shapes_rollback", config=config)
    assert ran.error is None
    assert on_the_landing_page(ask)[ran.run_id] == "shapes_rollback"
    assert on_the_jobs_page(ask, "shapes_rollback") == [ran.run_id]


@pytest.mark.slow
def test_a_run_says_what_it_is_about_and_last_how_it_ended_and_why(promoted: World) -> None:
    """Its page opens at the last events; of a refusal, Dagster's own is a traceback that names a check."""
    world = promoted
    world.publish("week-02", 120, seed=2, wrong=0.9)
    refused = world.tick()
    assert refused.run_id is not None and refused.partition is not None
    run = world.instance.get_run_by_id(refused.run_id)
    assert run is not None
    about = {name: run.tags[name] for name in (run_tags.PROJECT, run_tags.BATCH, run_tags.WEEK)}
    committed = datetime.strptime(refused.partition[:8], "%Y%m%d").isocalendar()
    week = f"{committed.year}-W{committed.week:02}"
    assert about == {run_tags.PROJECT: "shapes", run_tags.BATCH: "week-02", run_tags.WEEK: week}
    assert run.tags[run_tags.REASON].startswith("FAIL") and refused.reason.startswith(
        run.tags[run_tags.REASON].removesuffix("…")
    )
    (first, *_) = world.instance.get_runs(dg.RunsFilter(tags={run_tags.OUTCOME: "promoted"}))
    for one, ended in ((run, f"refused: {refused.reason}"), (first, "promoted: PASS")):
        *_, last, status = world.instance.all_logs(one.run_id)
        assert status.dagster_event is not None and status.dagster_event.is_job_event
        assert last.message.startswith(ended)


def test_a_run_started_in_the_ui_says_what_it_is_about(promoted: World) -> None:
    (partition,) = promoted.partitions()
    result = promoted.run("manifest", partition=partition)
    run = promoted.instance.get_run_by_id(result.run_id)
    assert run is not None and run.tags[run_tags.BATCH] == "week-01" and run_tags.WEEK in run.tags


# `test_refused.py` asks Dagster itself.
@pytest.mark.stated
def test_a_refused_week_leaves_in_production_as_it_is(promoted: World, ask: Ask) -> None:
    """The lineage paints an asset red whose latest run failed and did not materialise it."""
    (first,) = promoted.instance.get_runs()
    promoted.publish("week-02", 120, seed=2, wrong=0.9)
    assert promoted.tick().outcome == "refused"
    (shown,) = ask(LATEST, keys=[{"path": ["shapes", "in_production"]}])
    assert shown["latestMaterialization"]["runId"] == first.run_id
    assert shown["latestRun"] is None or shown["latestRun"]["status"] == "SUCCESS", shown
    (node,) = ask(STALE, keys=[{"path": ["shapes", "in_production"]}])
    assert node == {"staleStatus": "FRESH", "staleCauses": []}


def test_a_sensor_that_fails_says_so_on_its_page(promoted: World, ask: Ask) -> None:
    promoted.instance.daemon_cursor_storage.set_cursor_values({"visionops/tick/shapes_commits": "no json"})
    assert promoted.tick().outcome == "error"
    newest = sensor(ask)["ticks"][0]
    assert newest["status"] == "FAILURE" and newest["error"]["message"]


def test_the_daemon_neither_runs_again_what_a_verb_ran_nor_takes_over_its_ticks(
    promoted: World, workspace: Any, ask: Ask
) -> None:
    before = sensor(ask)["ticks"]
    assert not promoted.instance.all_instigator_state(), "a verb leaves the daemon's state of a sensor alone"
    daemon_looks(workspace)
    (_, *older), runs = sensor(ask)["ticks"], promoted.instance.get_runs()
    assert older == before
    assert len(runs) == 1
    kept = {each.instigator_name: each for each in promoted.instance.all_instigator_state()}
    promoted.tick()
    assert {each.instigator_name: each for each in promoted.instance.all_instigator_state()} == kept


def test_a_run_key_that_a_verb_ran_is_none_that_the_daemon_runs(
    promoted: World, workspace: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where both look at the same moment: what the verb runs is not yet there when the daemon's sensor looks."""
    monkeypatch.setattr("sensors.newest_version._runs", lambda *_: [])
    monkeypatch.setattr("sensors.newest_version.read_address", lambda *_: None)
    daemon_looks(workspace)
    asked, ran = sensor(ask)["ticks"]
    assert (asked["status"], asked["skipReason"]) == ("SKIPPED", None), (
        "it asked: what asks for nothing says why"
    )
    assert ran["runIds"]
    assert len(promoted.instance.get_runs()) == 1


def daemon_looks(workspace: Any) -> None:
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        log = logging.getLogger("daemon")
        list(execute_sensor_iteration(workspace, log, None, pool))


def test_looks_that_asked_for_nothing_are_forgotten_after_a_week(promoted: World, ask: Ask) -> None:
    (record,) = promoted.instance.get_ticks(*_of_sensor("shapes_commits"))
    month = record.tick_data._replace(timestamp=record.timestamp - 30 * 86400)
    promoted.instance.create_tick(month)
    promoted.instance.create_tick(month._replace(status=TickStatus.SKIPPED, run_ids=[], run_keys=[]))
    promoted.tick()
    assert [each["status"] for each in sensor(ask)["ticks"]] == ["SKIPPED", "SUCCESS", "SUCCESS"]


def _of_sensor(name: str) -> tuple[str, str]:
    selector = InstigatorSelector(location_name=LOCATION, repository_name=REPOSITORY, name=name)
    return "unknown", selector.get_id()
