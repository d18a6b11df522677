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
from visionops.cli.homes import only_one

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


@pytest.mark.parametrize("option", ["--port", pytest.param("--mlflow-port", marks=pytest.mark.stated)])
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


HOLDER = """
import shutil, signal, sys
from resources import home
from visionops.cli.homes import only_one
from visionops.child_process import guarded
home.home().mkdir(exist_ok=True)
with only_one("http://127.0.0.1:3000") as locks, guarded(locks) as guard:
    if sys.argv[1] == "deleted":
        shutil.rmtree(home.home())
        home.home().mkdir()
    print("held", flush=True)
    signal.pause()
"""


def _held(folder: Path, how: str = "") -> "subprocess.Popen[str]":
    """A process that holds a home as `up` does."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, how],
        stdout=subprocess.PIPE,
        text=True,
        cwd=home.ROOT,
        env={**os.environ, "VISIONOPS_HOME": str(folder), "PYTHONPATH": str(home.ROOT)},
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", "deleted"])
def test_a_second_up_says_who_holds_the_home_even_if_it_was_deleted_meanwhile(
    tmp_path: Path, how: str
) -> None:
    place = tmp_path / "home"
    with _held(place, how) as holder:
        refused = _up(place)
        holder.kill()
    assert refused.returncode == 1
    (line,) = refused.stderr.strip().splitlines()
    assert str(place) in line and "runs already" in line and "VISIONOPS_HOME" in line
    assert f"process {holder.pid} " in line and "http://127.0.0.1:3000" in line
    assert "--port" not in line


def test_a_home_is_free_again_once_what_held_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "home"
    monkeypatch.setenv("VISIONOPS_HOME", str(place))
    with _held(place) as holder:
        holder.kill()
        # It is a zombie until it is waited for, and its guard still holds the lock for a moment.
        with only_one("http://127.0.0.1:3000"):
            assert (place / "up.lock").read_text() != ""


def test_a_lock_of_an_earlier_version_refuses_too(tmp_path: Path) -> None:
    with FileLock(tmp_path / "up.lock"):
        refused = _up(tmp_path)
    (line,) = refused.stderr.strip().splitlines()
    assert refused.returncode == 1 and "runs already" in line


@pytest.mark.slow
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


# Of a child: a grandchild in a session of its own, whose parent is gone, and one without the environment.
STRAY = """
import os, signal, subprocess, sys
deaf = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print(os.getpid(), flush=True);"
deaf += "signal.pause()"
middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True)"
subprocess.run([sys.executable, "-c", middle, deaf])
same = subprocess.Popen([sys.executable, "-c", deaf], env={"PATH": os.environ["PATH"]})
exec(deaf)
"""
KILLED = """
import signal, sys
from pathlib import Path
from visionops import child_process
with child_process.children() as started:
    started.start("child", [sys.executable, "-c", sys.argv[2]], Path(sys.argv[1]), {})
    signal.pause()
"""


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, pytest.param(True, marks=pytest.mark.stated)])
def test_nothing_survives_a_kill_of_the_command(tmp_path: Path, whole_group: bool) -> None:
    log = tmp_path / "said"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(log), STRAY],
        cwd=home.ROOT,
        env={**os.environ, "PYTHONPATH": str(home.ROOT)},
        start_new_session=True,
    ) as parent:
        while not log.exists() or len(log.read_text().split()) < 3:
            assert parent.poll() is None
            time.sleep(0.01)
        pids = [int(word) for word in log.read_text().split()]
        assert all(psutil.pid_exists(pid) for pid in pids)
        if whole_group:
            os.killpg(parent.pid, signal.SIGKILL)
        else:
            parent.kill()
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(left, timeout=30)
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
    assert said[-2:] == [
        f"resources.error_family.Unavailable: MLflow stopped with status 1; the end of {log}:",
        "no such store",
    ]
