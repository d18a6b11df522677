"""One folder, one server: found, shared, started when needed, gone when idle."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from lakefs_api import Api, Repository

from lakefs_local import discovery
from lakefs_local.data_folder import DataFolder, FolderError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose server, if one was started, is stopped."""
    yield tmp_path / "lakefs"
    discovery.stop(tmp_path / "lakefs")


def test_a_folder_without_server_has_none(folder: Path) -> None:
    assert discovery.running(folder) is None
    assert discovery.stop(folder) is False


def test_a_server_is_started_once_and_shared(folder: Path) -> None:
    found: list[discovery.Server] = []
    threads = [
        threading.Thread(target=lambda: found.append(discovery.ensure_running(folder))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert discovery.running(folder) == found[0]
    assert psutil.pid_exists(found[0].pid) and found[0].pid != os.getpid()
    assert Api(found[0]).call("GET", "/user").status == 200
    assert discovery.stop(folder) is True
    assert discovery.running(folder) is None
    assert not (folder / "server.json").exists()


def test_a_started_server_outlives_the_process_that_started_it(folder: Path) -> None:
    code = (
        "from pathlib import Path; from lakefs_local import discovery; "
        f"print(discovery.ensure_running(Path({str(folder)!r})).pid)"
    )
    root = Path(__file__).parents[2]
    started = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    server = discovery.running(folder)
    assert server is not None and server.pid == int(started.stdout)


def test_what_was_stored_is_there_after_a_restart(folder: Path) -> None:
    first = discovery.ensure_running(folder)
    Repository(Api(first), "kept").put("main", "a", b"1")
    discovery.stop(folder)
    second = discovery.ensure_running(folder)
    assert (second.access_key_id, second.secret_access_key) == (first.access_key_id, first.secret_access_key)
    stored = Api(second).call("GET", "/repositories/kept/refs/main/objects", {"path": "a"})
    assert stored.body == b"1"


def test_a_dead_process_is_not_taken_for_its_server(folder: Path) -> None:
    server = discovery.ensure_running(folder)
    os.kill(server.pid, signal.SIGKILL)
    psutil.Process(server.pid).wait(timeout=10)
    assert (folder / "server.json").exists()
    assert discovery.running(folder) is None
    again = discovery.ensure_running(folder)
    assert again.pid != server.pid


def test_a_process_that_got_a_dead_servers_number_is_not_taken_for_it(folder: Path) -> None:
    folder.mkdir()
    said = {"endpoint": "http://127.0.0.1:9", "pid": os.getppid(), "started": 1.0}
    (folder / "server.json").write_text(json.dumps(said))
    assert discovery.running(folder) is None
    assert discovery.stop(folder) is False


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "null"])
def test_a_damaged_server_file_counts_as_none(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "server.json").write_text(content)
    assert discovery.running(folder) is None


def test_a_server_in_use_stays(folder: Path) -> None:
    with discovery.serving(folder, idle_exit=0.3) as server:
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            api = Api(server)
            assert api.call("GET", "/user").status == 200
            api.close()
        assert discovery.running(folder) == server


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    folder.mkdir()
    (folder / "format.json").write_text('{"format": 99}')
    with pytest.raises(FolderError, match="has format 99, this version reads 1"):
        discovery.ensure_running(folder)


def test_imports_may_be_allowed_on_a_server_that_runs(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("1")
    server = discovery.ensure_running(folder)
    repository = Repository(Api(server), "importing")
    assert "error" in repository.import_folder("main", source)
    assert discovery.ensure_running(folder, import_from=[source]) == server
    assert repository.import_folder("main", source)["completed"]


def test_a_test_server_is_found_and_stopped_like_any_other(folder: Path) -> None:
    with discovery.serving(folder) as server:
        assert discovery.running(folder) == server
        assert discovery.ensure_running(folder) == server
    assert discovery.running(folder) is None
    with discovery.serving(folder):
        assert discovery.stop(folder) is True


def test_a_damaged_database_is_one_line_that_names_it(folder: Path) -> None:
    discovery.ensure_running(folder)
    discovery.stop(folder)
    (folder / "metadata.db").write_bytes(b"no database" * 2000)
    with pytest.raises(FolderError) as caught:
        discovery.ensure_running(folder)
    said = str(caught.value)
    assert said.startswith(f"{folder / 'metadata.db'} is damaged") and len(said.splitlines()) == 1
    assert "restore it from a backup" in said


def test_who_waits_for_a_folder_that_is_removed_makes_it_anew(folder: Path) -> None:
    folder.mkdir()
    found = list[discovery.Server]()
    with FileLock(DataFolder(folder).start_lock):
        waiting = threading.Thread(target=lambda: found.append(discovery.ensure_running(folder)))
        waiting.start()
        folder.rmdir()
    waiting.join()
    assert discovery.running(folder) == found[0]
