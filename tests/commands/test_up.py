"""`visionops up` refuses clearly, and what it starts never outlives it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from resources import home

# A child with a child of its own; neither leaves when asked to.
FAMILY = """
import signal, subprocess, sys
from pathlib import Path
ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
wait = "import sys; sys.stdout.write('r'); sys.stdout.flush(); signal.pause()"
grandchild = subprocess.Popen([sys.executable, "-c", ignore + wait], stdout=subprocess.PIPE)
grandchild.stdout.read(1)
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
Path(sys.argv[1] + ".new").write_text(str(grandchild.pid))
Path(sys.argv[1] + ".new").rename(sys.argv[1])
signal.pause()
"""
PARENT = """
import signal, sys
from pathlib import Path
from visionops import child_process, interruption
child_process.STOP_WITHIN_SECONDS = 0.2
# Tests that run under nohup ignore it, and so would this process.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
interruption.hear()
folder = Path(sys.argv[1])
try:
    with child_process.children() as started:
        for kind in ("stubborn", "polite"):
            family = [sys.executable, "-c", sys.argv[2], str(folder / kind), kind]
            started.start(kind, family, folder / f"{kind}.log", {})
        print(*(child.process.pid for child in started.started), flush=True)
        while True:
            started.check()
            signal.sigtimedwait([], 0.05)
except interruption.Interrupted:
    print("left", flush=True)
"""


def _up(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "VISIONOPS_HOME": str(folder), "DAGSTER_HOME": str(folder / "dagster")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(
        [sys.executable, "-m", "visionops", "up", *options],
        capture_output=True,
        text=True,
        env=environment,
        cwd=home.ROOT,
        timeout=120,
    )


@pytest.mark.parametrize("option", ["--port", "--mlflow-port"])
def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ports = dict.fromkeys(("--port", "--mlflow-port"), free.getsockname()[1])
        free.close()
        port = ports[option] = taken.getsockname()[1]
        refused = _up(tmp_path, *(str(word) for pair in ports.items() for word in pair))
    assert refused.returncode == 1
    assert refused.stdout == ""
    (line,) = refused.stderr.strip().splitlines()
    assert f"port {port}" in line and f"`visionops up {option} {port + 1}`" in line
    assert not (tmp_path / "lakefs").exists()


def test_a_second_up_on_the_same_home_is_refused_by_name(tmp_path: Path) -> None:
    with FileLock(tmp_path / "up.lock"):
        refused = _up(tmp_path)
    assert refused.returncode == 1
    (line,) = refused.stderr.strip().splitlines()
    assert str(tmp_path) in line and "runs already" in line and "VISIONOPS_HOME" in line


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_child_survives_whatever_it_ignores(tmp_path: Path, sent: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), FAMILY],
        stdout=subprocess.PIPE,
        text=True,
        cwd=home.ROOT,
        env={**os.environ, "PYTHONPATH": str(home.ROOT)},
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        for kind in ("stubborn", "polite"):
            while not (tmp_path / kind).exists():
                assert parent.poll() is None
                time.sleep(0.01)
            pids.append(int((tmp_path / kind).read_text()))
        assert all(psutil.pid_exists(pid) for pid in pids)
        parent.send_signal(sent)
        assert parent.stdout.read() == "left\n"
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_child_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    # In a process of its own: `children` takes over the signals.
    code = (
        "import sys; from pathlib import Path; from visionops.child_process import children\n"
        "with children() as started:\n"
        "    started.start('MLflow', [sys.executable, '-c', 'exit(\"no such store\")'], Path(sys.argv[1]), {})\n"
        "    started.started[0].process.wait()\n"
        "    started.check()"
    )
    log = tmp_path / "mlflow.log"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(log)], capture_output=True, text=True, cwd=home.ROOT
    )
    said = ended.stderr.strip().splitlines()
    assert said[-2:] == [f"RuntimeError: MLflow stopped with status 1; the end of {log}:", "no such store"]
