"""A home that an earlier release made opens with today's code: `stored/96fc765.tar.xz` was made by that revision.

Two batches of shapes of 8×8 were imported and judged, the second version was promoted by override, and a day of
production was logged; neither caches nor logs are in it.
"""

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster_graphql.test.utils import execute_dagster_graphql

from lakefs_local import discovery
from resources.home import ROOT
from resources.models.local_store import follow_folder
from tests import processes
from visionops_assets.config.project import load_project
from visionops_assets.config.recipe import recipe_digest
from visionops_assets.training.provenance import Provenance

REVISION = "96fc765"
STORED = Path(__file__).parent / "stored" / f"{REVISION}.tar.xz"
MOST_BYTES = 1_000_000
WEIGHTS = "76cb7ee8b6b87ff1d188d692588dd8a5a57a453175b149ac4980a4cf149aa7e7"
PAGES = """
query AssetEvents($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) {
    ... on Asset {
      assetMaterializations(limit: 10) {
        runId metadataEntries { label ... on MarkdownMetadataEntry { mdStr } }
      }
      definition { partitionStats { numMaterialized } }
    }
  }
}"""
RUNS = """
query Runs { runsOrError { ... on Runs { results { runId status pipelineName } } } }
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("before")
    with tarfile.open(STORED) as stored:
        stored.extractall(root, filter="tar")
    follow_folder(root / "home" / "mlflow" / "mlflow.db")
    yield root
    discovery.stop(root / "home" / "lakefs")


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    here = {
        **os.environ,
        "VISIONOPS_HOME": str(root / "home"),
        "VISIONOPS_PROJECTS": str(root / "projects"),
        "VISIONOPS_ACTOR": "somebody@example.com",
    }
    here.pop("DAGSTER_HOME", None)
    return here


@pytest.fixture
def said(root: Path, environment: dict[str, str]) -> Any:
    def run(*words: str, code: int | None = 0) -> str:
        ended = processes.visionops(*words, environment=environment, said=root / "said")
        assert code is None or ended.code == code, ended.said
        return ended.said

    return run


def test_it_is_small() -> None:
    assert STORED.stat().st_size <= MOST_BYTES


def test_status_says_what_runs_and_what_was_decided(said: Any) -> None:
    told = said("status", "shapes")
    assert "shapes: version 2 in production since 2026-11-30 23:15 UTC" in told and WEIGHTS in told
    assert "INSUFFICIENT" in told and "The first champion: accuracy" in told and "a second version" in told


def test_why_says_how_it_came_there_and_what_changed(said: Any) -> None:
    told = said("why", "shapes")
    assert "version 2 promoted against the verdict, replacing version 1" in told and WEIGHTS in told
    assert "The challenger is not shown to be better" in told
    assert "week-02: 120 images added (bar: 40, cross: 40, ring: 40)." in told
    assert "code revision      96fc7650d082" in told


@pytest.mark.slow
def test_what_it_was_made_of_is_compared(said: Any) -> None:
    # Versions of then have no digest of their record.
    assert "--unverified" in said("reproduce", "shapes", "--inputs-only", code=1)
    known = subprocess.run(["git", "-C", str(ROOT), "cat-file", "-e", REVISION], capture_output=True)
    if known.returncode:
        pytest.skip(f"this clone has no revision {REVISION}, whose code is compared")
    # Tools that were installed since then are inputs that differ, and so is this machine where it is another.
    told = said("reproduce", "shapes", "--inputs-only", "--unverified", code=None)
    differing = told.partition("Inputs that differ")[2].partition("kept:")[0]
    kinds = {line.split()[0] for line in differing.splitlines() if line[:1].isalpha()} - {"kind"}
    assert "Every recorded input is here" in told or (kinds and kinds <= {"versions", "hardware"}), told
    assert WEIGHTS in told and "not trained" in told


def test_its_recipe_and_record_are_what_they_were(root: Path) -> None:
    (file,) = (root / "projects").glob("*.yaml")
    declared = load_project(file).recipe
    records = list((root / "home" / "mlflow").rglob("provenance.json"))
    assert len(records) >= 2
    for record in records:
        found = Provenance.from_json(record.read_text())
        assert found.recipe_digest == recipe_digest(declared)
        assert json.loads(found.to_json()) == json.loads(record.read_text())


def test_pages_of_the_ui_show_its_runs_and_assets(
    root: Path, environment: dict[str, str], said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster import DagsterInstance
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget

    # The settings of Dagster in it lead to a checkout that is gone, until a command mends that.
    said("status", "shapes")
    for name in ("VISIONOPS_HOME", "VISIONOPS_PROJECTS"):
        monkeypatch.setenv(name, environment[name])
    target = LoadableTargetOrigin(python_file=str(ROOT / "definitions.py"), working_directory=str(ROOT))
    place = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(target, location_name="here"))
    with (
        DagsterInstance.from_config(str(root / "home" / "dagster")) as instance,
        WorkspaceProcessContext(instance, place) as workspace,
    ):

        def ask(query: str, **variables: Any) -> Any:
            result = execute_dagster_graphql(workspace.create_request_context(), query, variables)
            assert not result.errors, result.errors
            (answer,) = result.data.values()
            return answer

        runs = {run["runId"]: run for run in ask(RUNS)["results"]}
        # A week that was not promoted was a failed run then.
        assert sorted(run["status"] for run in runs.values()) == ["FAILURE", "SUCCESS", "SUCCESS", "SUCCESS"]
        shown = {
            name: ask(PAGES, key={"path": ["shapes", name]})
            for name in ("manifest", "challenger", "evaluation", "champion", "in_production", "inference_log")
        }
    for name, asset in shown.items():
        (newest, *_) = asset["assetMaterializations"]
        assert newest["runId"] in runs and newest["metadataEntries"], name
        assert asset["definition"] is not None, name
    (page,) = [
        entry["mdStr"]
        for entry in shown["evaluation"]["assetMaterializations"][0]["metadataEntries"]
        if entry["label"] == "in_detail"
    ]
    assert page.startswith("# INSUFFICIENT")
