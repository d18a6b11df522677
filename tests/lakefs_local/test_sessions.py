"""A server stays while somebody uses it, and leaves after whoever did, however that one ended."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from lakefs_api import Api

from lakefs_local import data_folder, discovery
from lakefs_local.data_folder import DataFolder

ROOT = Path(__file__).parents[2]
IDLE = 0.2


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose server, if one was started, is stopped."""
    yield tmp_path / "lakefs"
    discovery.stop(tmp_path / "lakefs")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Wait until a server in this process has looked ten times longer than it may be idle whether it is used."""
    looked = threading.Semaphore(0)
    ask = data_folder.no_other_session

    @contextmanager
    def counted(folder: DataFolder) -> Iterator[bool]:
        looked.release()
        with ask(folder) as nobody:
            yield nobody

    monkeypatch.setattr(data_folder, "no_other_session", counted)

    def wait() -> None:
        until = time.monotonic() + 10 * IDLE
        while time.monotonic() < until:
            assert looked.acquire(timeout=20)

    return wait


@contextmanager
def served(folder: Path) -> Iterator[discovery.Server]:
    """A server in this process that may leave, used by this process until it says otherwise."""
    folder.mkdir()
    data_folder.hold_session(DataFolder(folder), 1)
    with discovery.serving(folder, idle_exit=IDLE) as server:
        yield server


@contextmanager
def user(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the folder's server and asks it nothing."""
    code = (
        "import sys; from pathlib import Path; from lakefs_local import discovery; "
        f"print(discovery.ensure_running(Path({str(folder)!r}), idle_exit={IDLE}).pid, flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def started(process: subprocess.Popen[str]) -> int:
    """The server's process, once the user has found it."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def left(folder: Path) -> bool:
    """Whether the server withdraws, as one that is about to leave does."""
    deadline = time.monotonic() + 20
    while (folder / "server.json").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_server_stays_while_a_process_that_asks_nothing_uses_it(
    folder: Path, looks: Callable[[], None]
) -> None:
    with served(folder) as server, user(folder) as process:
        assert started(process) == server.pid
        data_folder.release_session(DataFolder(folder))
        looks()
        assert discovery.running(folder) == server
        process.send_signal(signal.SIGKILL)
        assert left(folder)


def test_a_server_stays_while_a_client_of_any_kind_keeps_its_connection(folder: Path) -> None:
    with served(folder) as server:
        api = Api(server)
        assert api.call("GET", "/user").status == 200
        data_folder.release_session(DataFolder(folder))
        until = time.monotonic() + 10 * IDLE
        while time.monotonic() < until:
            # Nothing is asked meanwhile: whether the server is there is seen from its folder.
            assert discovery.serves(server, folder)
            time.sleep(0.01)
        api.close()
        assert left(folder)


def test_a_started_server_leaves_after_its_last_user_was_killed(folder: Path) -> None:
    with user(folder) as first, user(folder) as second:
        server = psutil.Process(started(first))
        assert started(second) == server.pid
        first.kill()
        first.wait()
        assert discovery.stop(folder, unless_used=True) is False
        assert server.is_running()
        second.kill()
        second.wait()
        server.wait(timeout=20)
    assert discovery.running(folder) is None


def test_who_comes_while_the_server_leaves_gets_one_that_stays(
    folder: Path, count: Callable[[int, int], int]
) -> None:
    for _ in range(count(1, 20)):
        with user(folder) as process:
            first = started(process)
        assert left(folder)
        server = discovery.ensure_running(folder)
        assert server.pid != first
        assert Api(server).call("GET", "/user").status == 200
        assert discovery.serves(server, folder)
        discovery.stop(folder)


def test_a_folder_made_anew_has_sessions_of_its_own(folder: Path) -> None:
    first = DataFolder(folder)
    folder.mkdir()
    data_folder.hold_session(first, 1)
    first.sessions.unlink()
    with data_folder.no_other_session(first) as nobody:
        assert nobody
    data_folder.hold_session(first, 1)
    with data_folder.no_other_session(first) as nobody:
        assert not nobody
    data_folder.release_session(first)
    with data_folder.no_other_session(first) as nobody:
        assert nobody


@pytest.mark.slow
def test_a_forked_child_keeps_the_server_after_its_parent(folder: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from lakefs_local import discovery; "
        f"print(discovery.ensure_running(Path({str(folder)!r}), idle_exit={IDLE}).pid, flush=True); "
        "os.fork() and os._exit(0); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        server = psutil.Process(started(parent))
        assert parent.wait(timeout=20) == 0
        assert discovery.stop(folder, unless_used=True) is False
        assert parent.stdin is not None
        parent.stdin.close()
        server.wait(timeout=20)
