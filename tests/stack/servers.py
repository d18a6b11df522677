"""Servers in processes of their own, and the environment of a team that runs them all."""

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

from resources import home
from tests import postgres, s3

BUCKETS = ("mlflow", "artifacts", "drop", "spool")


@contextmanager
def served(
    command: list[str], ready: Callable[[], bool], log: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """A server, from when it is ready; its group of processes goes with the context."""
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
    """Whether a page answers, when asked."""

    def asked() -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    return asked


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


def bucket_client(environment: Mapping[str, str]) -> Any:
    """boto3's client of the S3 that an environment leads to."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


@contextmanager
def team(folder: Path, alone: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """An environment like `alone`, with Postgres, S3, lakeFS and an MLflow server, while all of them run."""
    with ExitStack() as services:
        database = services.enter_context(postgres.running())
        _create_databases(database, "dagster", "mlflow")
        endpoint = services.enter_context(s3.running())
        environment = {**alone, **s3.CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}
        client = bucket_client(environment)
        for bucket in BUCKETS:
            client.create_bucket(Bucket=bucket)
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


def _create_databases(server: str, *names: str) -> None:
    import psycopg2

    connection = psycopg2.connect(f"{server}/postgres")
    # Postgres creates no database inside a transaction.
    connection.autocommit = True
    for name in names:
        connection.cursor().execute(f"CREATE DATABASE {name}")
    connection.close()
