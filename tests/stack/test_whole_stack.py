"""The demo's weeks and a batch from the drop, on a team's Postgres, MLflow server, S3 and lakeFS endpoint."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import servers
from PIL import Image

from lakefs_local import discovery
from resources import home
from tests import chromium, processes
from tests.chromium import see
from tests.drop.places import Bucket, FolderDrop, Remote, fill
from visionops.demo.digits import production_digits

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.stated
OURS = ("VISIONOPS_", "DAGSTER_", "LAKEFS_", "MLFLOW_", "AWS_")
RUNS = "{runsOrError {... on Runs {results {jobName status tags {key value}}}}}"
BATCH, IMAGES = "week-04", 60


@dataclass(frozen=True)
class Told:
    """What the weeks came to, each (batch, verdict, reasons, version in production), and what two ticks then did."""

    weeks: list[tuple[Any, ...]]
    ticks: list[dict[str, Any]]
    again: list[dict[str, Any]]


@pytest.fixture(scope="module")
def alone() -> dict[str, str]:
    """An environment in which nothing is configured."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, alone: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a team whose services all run."""
    with servers.team(tmp_path_factory.mktemp("team"), alone) as environment:
        yield environment


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A further week of digits that no earlier one has, as a labelling team makes it."""
    folder, (images, labels) = tmp_path_factory.mktemp("further"), production_digits()
    lines = ["path,label"]
    for number, (image, label) in enumerate(zip(images[:IMAGES], labels[:IMAGES], strict=True)):
        Image.fromarray(image, mode="L").save(folder / f"{number}.png")
        lines.append(f"{number}.png,{label}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, alone: dict[str, str], batch: Path) -> Iterator[Told]:
    """What happens where nothing is configured and the drop is a folder."""
    folder = tmp_path_factory.mktemp("embedded")
    try:
        environment = {**alone, "VISIONOPS_HOME": str(folder / "home")}
        yield lived(environment, FolderDrop(folder / "home" / "drop" / "digits"), batch, folder)
    finally:
        discovery.stop(folder / "home" / "lakefs")


@pytest.fixture(scope="module")
def on_services(tmp_path_factory: pytest.TempPathFactory, team: dict[str, str], batch: Path) -> Told:
    """What happens on the team's services, where the drop is a bucket."""
    bucket = Bucket("drop", servers.bucket_client(team), "digits")
    return lived(team, bucket, batch, tmp_path_factory.mktemp("on-services"))


def lived(environment: Mapping[str, str], remote: Remote, batch: Path, folder: Path) -> Told:
    """The demo's weeks, then a batch in the drop that the sensors take, then nothing new."""
    demo = processes.visionops(
        "demo", "--days", "0", "--fleet", "0", environment=environment, said=folder / "demo"
    )
    assert demo.code == 0, demo.said
    weeks = [
        (week["batch"], week["verdict"], tuple(week["reasons"]), week["champion_version"])
        for week in json.loads((Path(environment["VISIONOPS_HOME"]) / "demo.json").read_text())
    ]
    fill(remote, BATCH, batch)
    return Told(weeks, *(ticked(environment, folder / name) for name in ("tick", "again")))


def ticked(environment: Mapping[str, str], said: Path) -> list[dict[str, Any]]:
    """What `visionops tick` did, which evaluates the sensor of the drop and then that of the commits."""
    ended = processes.visionops("tick", "digits", "--json", environment=environment, said=said)
    assert ended.code == 0, ended.said
    found: list[dict[str, Any]] = json.loads(ended.said[ended.said.index("[\n") :])
    return found


@pytest.fixture(scope="module")
def webserver(
    tmp_path_factory: pytest.TempPathFactory, team: dict[str, str], on_services: Told
) -> Iterator[str]:
    """Dagster's UI on the team's Postgres, which has what happened."""
    port, program = servers.free_port(), Path(sys.executable).with_name("dagster-webserver")
    address = f"http://127.0.0.1:{port}"
    workspace = ["-w", str(home.ROOT / "workspace.yaml")]
    command = [sys.executable, "-m", "visionops.bootstrap", str(program), *workspace, "--port", port]
    ready, log = servers.answers(f"{address}/server_info"), tmp_path_factory.mktemp("webserver") / "log"
    with servers.served(command, ready, log, team):
        yield address


def test_the_demo_comes_to_the_same_on_a_teams_services(embedded: Told, on_services: Told) -> None:
    assert [(verdict, version) for _, verdict, _, version in embedded.weeks] == [
        ("PASS", 1),
        ("PASS", 2),
        ("FAIL", 2),
    ]
    assert on_services.weeks == embedded.weeks


def test_a_batch_in_the_bucket_is_published_on_main_and_judged_like_one_in_a_folder(
    embedded: Told, on_services: Told, team: dict[str, str]
) -> None:
    taken, judged = on_services.ticks
    assert (taken["partition"], taken["outcome"]) == (BATCH, "published")
    assert judged["outcome"] == "refused" and "week-03" in judged["reason"], "the poisoned week still stands"
    assert [one["outcome"] for one in embedded.ticks] == ["published", "refused"]
    assert judged["reason"] == embedded.ticks[1]["reason"]
    assert [one["run_id"] for one in on_services.again] == [None], "a batch is taken once"

    main = f"{team['LAKEFS_ENDPOINT']}/api/v1/repositories/digits/refs/main"
    with httpx.Client(auth=(team["LAKEFS_ACCESS_KEY_ID"], team["LAKEFS_SECRET_ACCESS_KEY"])) as client:
        commits = client.get(f"{main}/commits").raise_for_status().json()["results"]
        objects = client.get(
            f"{main}/objects/ls", params={"prefix": f"batches/{BATCH}/images/", "amount": 1000}
        )
    assert commits[0]["metadata"]["visionops.batch"] == BATCH
    assert len(objects.raise_for_status().json()["results"]) == IMAGES


def test_dagster_has_its_runs_in_postgres(team: dict[str, str], on_services: Told, webserver: str) -> None:
    import psycopg2

    assert not list(Path(team["VISIONOPS_HOME"]).rglob("runs.db")), "Dagster's storage is Postgres"
    with psycopg2.connect(team["DAGSTER_POSTGRES_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT run_id FROM runs WHERE status = 'SUCCESS' AND pipeline_name = 'digits_take'")
        assert cursor.fetchall() == [(on_services.ticks[0]["run_id"],)]
    connection.close()
    answer = httpx.post(f"{webserver}/graphql", json={"query": RUNS}, timeout=60).json()
    runs = answer["data"]["runsOrError"]["results"]
    outcomes = [tag["value"] for run in runs for tag in run["tags"] if tag["key"] == "visionops/outcome"]
    assert sorted(outcomes) == [
        "delivered",
        "delivered",
        "promoted",
        "promoted",
        "published",
        "refused",
        "refused",
    ], answer


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Chrome]":
    """A headless Chromium; the test is skipped where there is none."""
    with chromium.running(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.mark.browser
def test_a_browser_shows_from_postgres_why_the_model_is_in_production(
    browser: "Chrome", webserver: str
) -> None:
    browser.get(f"{webserver}/locations/visionops/asset-groups/digits")
    see(browser, "in_production").click()
    see(browser, "version 2 promoted, replacing version 1")
    browser.get(f"{webserver}/assets/digits/in_production")
    see(browser, "What runs now, in words")
    see(browser, "version 2 promoted, replacing version 1")
