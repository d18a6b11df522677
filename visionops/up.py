"""`visionops up`: Dagster UI and daemon, MLflow and lakeFS together, until interrupted."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from resources import home

SHUTDOWN_SECONDS = 20


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
) -> None:
    """Run the Dagster UI, its daemon, MLflow and lakeFS together until Ctrl-C.

    What the environment points elsewhere (LAKEFS_ENDPOINT, MLFLOW_TRACKING_URI) is used and not started.
    """
    import dagster as dg

    from sensors.stale_runs import fail_stale_runs

    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    with dg.DagsterInstance.get() as instance:
        for run_id in fail_stale_runs(instance):
            typer.echo(f"run {run_id} was killed and is marked as failed; its sensor will ask for it again")
    logs = home.home() / "logs"
    logs.mkdir(exist_ok=True)
    with contextlib.ExitStack() as started:
        typer.echo(f"lakeFS     {started.enter_context(_lakefs())}")
        services = {
            "Dagster": started.enter_context(
                _process(_dagster(host, port), logs / "dagster.log", {"PYTHONUNBUFFERED": "1"})
            )
        }
        typer.echo(f"Dagster    http://{host}:{port}   starting (log: {logs / 'dagster.log'})")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            command_line = _mlflow(host, mlflow_port)
            services["MLflow"] = started.enter_context(_process(command_line, logs / "mlflow.log", {}))
            typer.echo(f"MLflow     http://{host}:{mlflow_port}   starting (log: {logs / 'mlflow.log'})")
        _wait_until_ready({"Dagster": f"http://{host}:{port}/server_info"}, services, logs)
        typer.echo("ready; Ctrl-C stops everything")
        _watch(services, logs)


@contextlib.contextmanager
def _lakefs() -> Iterator[str]:
    """The server in use; one that this command started stops with it."""
    if os.environ.get("LAKEFS_ENDPOINT"):
        yield os.environ["LAKEFS_ENDPOINT"]
        return
    from lakefs_local import discovery

    data = home.lakefs_data()
    ours = discovery.running(data) is None
    server = discovery.ensure_running(data)
    try:
        yield f"{server.endpoint}   user and password: {data / 'credentials.json'}"
    finally:
        if ours:
            discovery.stop(data)


def _dagster(host: str, port: int) -> list[str]:
    workspace = str(home.ROOT / "workspace.yaml")
    return [sys.executable, "-m", "dagster", "dev", "-w", workspace, "-h", host, "-p", str(port)]


def _mlflow(host: str, port: int) -> list[str]:
    folder = home.mlflow_folder()
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", home.mlflow_uri()),
        *("--default-artifact-root", (folder / "artifacts").as_uri()),
    ]


@contextlib.contextmanager
def _process(
    command_line: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen]:
    """A child in a process group of its own, stopped gently at the end, and hard if it will not."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command_line,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=home.ROOT,
            env={**os.environ, **environment},
            start_new_session=True,
            # Started from a shell's background job, SIGINT would be ignored, and by every grandchild too.
            preexec_fn=_restore_interrupt,
        )
    try:
        yield child
    finally:
        for sent in (signal.SIGINT, signal.SIGKILL):
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(SHUTDOWN_SECONDS)
                break


def _restore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_until_ready(pages: Mapping[str, str], services: Mapping[str, subprocess.Popen], logs: Path) -> None:
    import httpx

    for name, page in pages.items():
        while True:
            _check(services, logs)
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(page, timeout=2).is_success:
                    break
            time.sleep(0.3)
        typer.echo(f"{name} is up")


def _watch(services: Mapping[str, subprocess.Popen], logs: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            _check(services, logs)
            time.sleep(1)


def _check(services: Mapping[str, subprocess.Popen], logs: Path) -> None:
    for name, child in services.items():
        if child.poll() is not None:
            log = logs / f"{name.lower()}.log"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise RuntimeError(f"{name} stopped with status {child.returncode}; the end of {log}:\n{tail}")
