"""Everything that `visionops up` starts, once, on a home with history; and a browser."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from running_services import Services

from lakefs_local import discovery
from resources import home
from tests import chromium, processes
from tests.browser import three_weeks
from tests.world import copy_registry

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

STOPS_WITHIN = 60


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def services(
    tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path, count: Callable[[int, int], int]
) -> Iterator[Services]:
    """A home with a first champion, a promotion and a refusal, and `up` on it; at the stated counts, the demo's."""
    folder = tmp_path_factory.mktemp("home")
    demo = count(0, 1) == 1
    ports = {"--port": _free_port(), "--mlflow-port": _free_port()}
    dagster, mlflow = (f"http://127.0.0.1:{port}" for port in ports.values())
    left_out = (
        "LAKEFS_ENDPOINT",
        "MLFLOW_TRACKING_URI",
        "VISIONOPS_ARTIFACTS",
        "VISIONOPS_DROP",
        "DAGSTER_HOME",
    )
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"VISIONOPS_HOME": str(folder), "MLFLOW_UI_URL": mlflow, "DAGSTER_UI_URL": dagster}
    if not demo:
        environment["VISIONOPS_PROJECTS"] = str(folder / "projects")
        copy_registry(mlflow_template, folder / "mlflow")
    said = tmp_path_factory.mktemp("said") / "said"
    if demo:
        filled = processes.visionops(
            "demo", "--days", "4", "--fleet", "3", environment=environment, said=said
        )
    else:
        filled = processes.run(three_weeks.fill, environment=environment, said=said)
    assert filled.code == 0, filled.said
    options = [str(word) for pair in ports.items() for word in pair]
    with subprocess.Popen(
        [sys.executable, "-m", "visionops", "up", "--no-metrics", *options],
        cwd=home.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        assert up.stdout is not None
        try:
            line = ""
            while "All is up" not in line:
                line = up.stdout.readline()
                assert line, "`visionops up` ended; its error stands above"
            server = discovery.running(folder / "lakefs")
            assert server is not None
            yield Services(folder, "digits" if demo else "shapes", dagster, mlflow, server)
        finally:
            started = psutil.Process(up.pid).children(recursive=True) if up.poll() is None else []
            up.send_signal(signal.SIGTERM)
            try:
                up.communicate(timeout=STOPS_WITHIN)
            finally:
                up.kill()
                discovery.stop(folder / "lakefs")
        assert up.returncode == 128 + signal.SIGTERM
        assert [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Chrome]":
    """A headless Chromium; the test is skipped where there is none."""
    with chromium.running(tmp_path_factory.mktemp("chromium")) as started:
        yield started
