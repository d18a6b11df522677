"""The demo's weeks on the services of a team: Postgres, MLflow's server, S3 and lakeFS by its endpoint."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakefs_local import discovery
from resources import home
from tests import postgres, processes, s3

pytestmark = pytest.mark.skipif(
    os.environ.get("VISIONOPS_FULL_COUNTS") != "1",
    reason="the demo on a team's services is for `make test-all`",
)
BUCKETS = ("mlflow", "artifacts", "drop", "spool")
OURS = ("VISIONOPS_", "DAGSTER_", "LAKEFS_", "MLFLOW_", "AWS_")
RUNS = "{runsOrError {... on Runs {results {jobName status tags {key value}}}}}"


@contextmanager
def served(
    command: list[str], ready: Callable[[], bool], log: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """A server in a process of its own, from when it is ready; its group goes with the context."""
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, cwd=home.ROOT, process_group=0
        ) as server,
    ):
        try:
            deadline = time.monotonic() + 180
            while not ready():
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)


def answers(url: str) -> Callable[[], bool]:
    def asked() -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    return asked


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


@pytest.fixture(scope="module")
def alone() -> dict[str, str]:
    """An environment in which nothing is configured."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, alone: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a team whose services all run."""
    import boto3
    import psycopg2

    folder = tmp_path_factory.mktemp("team")
    with ExitStack() as services:
        database = services.enter_context(postgres.running())
        connection = psycopg2.connect(f"{database}/postgres")
        connection.autocommit = True
        for name in ("dagster", "mlflow"):
            connection.cursor().execute(f"CREATE DATABASE {name}")
        connection.close()
        endpoint = services.enter_context(s3.running())
        client: Any = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id="tests", aws_secret_access_key="tests"
        )
        for bucket in BUCKETS:
            client.create_bucket(Bucket=bucket)
        environment = {**alone, **s3.CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}
        data, lakefs_port, mlflow_port = folder / "lakefs", free_port(), free_port()
        services.enter_context(
            served(
                [sys.executable, "-m", "lakefs_local", "serve", "--data", str(data), "--port", lakefs_port],
                (data / "server.json").exists,
                folder / "lakefs.log",
                environment,
            )
        )
        key = json.loads((data / "credentials.json").read_text())[0]
        store = ["--backend-store-uri", f"{database.replace('://', '+psycopg2://', 1)}/mlflow"]
        place = ["--artifacts-destination", "s3://mlflow", "--port", mlflow_port, "--workers", "1"]
        services.enter_context(
            served(
                [str(Path(sys.executable).with_name("mlflow")), "server", *store, *place],
                answers(f"http://127.0.0.1:{mlflow_port}/health"),
                folder / "mlflow.log",
                {**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        )
        yield {
            **environment,
            "VISIONOPS_HOME": str(folder / "home"),
            "DAGSTER_POSTGRES_URL": f"{database}/dagster",
            "VISIONOPS_LOCK_URL": f"{database}/dagster",
            "VISIONOPS_ARTIFACTS": "s3://artifacts/tables",
            "VISIONOPS_COMPUTE_LOGS": "s3://artifacts/compute-logs",
            "VISIONOPS_DROP": "s3://drop",
            "VISIONOPS_SPOOL": "s3://spool",
            "LAKEFS_ENDPOINT": f"http://127.0.0.1:{lakefs_port}",
            "LAKEFS_ACCESS_KEY_ID": key["access_key_id"],
            "LAKEFS_SECRET_ACCESS_KEY": key["secret_access_key"],
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow_port}",
        }


def decided(environment: Mapping[str, str], said: Path) -> list[tuple[Any, ...]]:
    """What the demo's weeks came to: batch, verdict, its reasons, and the version in production."""
    ended = processes.visionops("demo", "--days", "0", environment=environment, said=said)
    assert ended.code == 0, ended.said
    weeks = json.loads((Path(environment["VISIONOPS_HOME"]) / "demo.json").read_text())
    return [
        (week["batch"], week["verdict"], tuple(week["reasons"]), week["champion_version"]) for week in weeks
    ]


def test_the_demo_comes_to_the_same_on_a_teams_services(
    team: dict[str, str], alone: dict[str, str], tmp_path: Path
) -> None:
    try:
        embedded = decided({**alone, "VISIONOPS_HOME": str(tmp_path / "home")}, tmp_path / "said")
    finally:
        discovery.stop(tmp_path / "home" / "lakefs")
    assert [(verdict, version) for _, verdict, _, version in embedded] == [
        ("PASS", 1),
        ("PASS", 2),
        ("FAIL", 2),
    ]

    assert decided(team, tmp_path / "team") == embedded

    assert not list(Path(team["VISIONOPS_HOME"]).rglob("runs.db")), "Dagster's storage is Postgres"
    port = free_port()
    program = Path(sys.executable).with_name("dagster-webserver")
    webserver = [sys.executable, "-m", "visionops.bootstrap", str(program), "--port", port]
    with served(webserver, answers(f"http://127.0.0.1:{port}/server_info"), tmp_path / "log", team):
        answer = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": RUNS}, timeout=60).json()
    runs = answer["data"]["runsOrError"]["results"]
    outcomes = [tag["value"] for run in runs for tag in run["tags"] if tag["key"] == "visionops/outcome"]
    assert sorted(outcomes) == ["promoted", "promoted", "refused"], answer
