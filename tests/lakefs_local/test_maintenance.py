"""Garbage collection takes only what nothing reaches; the check finds whatever is damaged."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from lakefs_api import Api, Repository

from lakefs_local import __main__
from lakefs_local.data_folder import DataFolder
from lakefs_local.discovery import serving
from lakefs_local.maintenance import check_data
from lakefs_local.store import Busy, Gate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with history, a deleted branch, a reset and a deleted repository in it; nobody serves it."""
    data = tmp_path / "data"
    with serving(data) as server:
        api = Api(server)
        repository = Repository(api, "kept")
        for number in range(200):
            repository.put("main", f"path/{number:03d}", b"%d" % number)
        repository.commit("main")
        repository.put("main", "path/000", b"second version")
        repository.commit("main")
        repository.put("main", "staged", b"only staged")
        repository.branch("gone")
        repository.put("gone", "lost", b"lost with its branch")
        repository.commit("gone")
        repository.put("gone", "staged-and-lost", b"lost while staged")
        repository.call("DELETE", "/branches/gone")
        other = Repository(api, "deleted")
        other.put("main", "a", b"lost with its repository")
        other.put("main", "shared", b"1")
        other.commit("main")
        api.call("DELETE", "/repositories/deleted")
    return data


def blobs(data: Path) -> list[Path]:
    return sorted(path for path in (data / "blobs").rglob("*") if path.is_file())


def contents(data: Path) -> set[bytes]:
    return {path.read_bytes() for path in blobs(data)}


def test_collecting_removes_what_nothing_reaches_and_nothing_else(folder: Path) -> None:
    lost = {b"lost with its branch", b"lost while staged", b"lost with its repository"}
    kept = {b"%d" % number for number in range(200)} | {b"second version", b"only staged"}
    assert contents(folder) == lost | kept
    removed = __main__.collect_garbage(folder)
    assert contents(folder) == kept
    assert (removed["blobs"], removed["commits"]) == (3, 1) and removed["nodes"] > 0
    assert removed["bytes"] == sum(map(len, lost))
    assert list(check_data(DataFolder(folder))) == []
    with serving(folder) as server:
        repository = Api(server)
        for path, content in [
            ("path/000", b"second version"),
            ("path/199", b"199"),
            ("staged", b"only staged"),
        ]:
            answer = repository.call("GET", "/repositories/kept/refs/main/objects", {"path": path})
            assert answer.body == content
        old = repository.call("GET", "/repositories/kept/refs/main~1/objects", {"path": "path/000"})
        assert old.body == b"0"


def test_collecting_twice_removes_nothing_more(folder: Path) -> None:
    __main__.collect_garbage(folder)
    assert set(__main__.collect_garbage(folder).values()) == {0}


def test_a_running_server_collects_for_the_command(folder: Path) -> None:
    with serving(folder):
        assert __main__.collect_garbage(folder)["blobs"] == 3
        assert list(check_data(DataFolder(folder))) == []


def test_collecting_beside_uploads_and_commits_loses_nothing(folder: Path) -> None:
    with serving(folder) as server:
        repository = Repository(Api(server), "busy")
        stopped = threading.Event()
        problems: list[BaseException] = []

        def work(client: int) -> None:
            number = 0
            try:
                repository.branch(f"work-{client}")
                while not stopped.is_set():
                    number += 1
                    # The same few contents again and again: collected, then needed again.
                    repository.put(f"work-{client}", "a", b"content %d" % (number % 3))
                    assert repository.get(f"work-{client}", "a").status == 200
                    if number % 4 == 0:
                        repository.commit(f"work-{client}", allow_empty=True)
                    elif number % 4 == 2:
                        repository.call("PUT", f"/branches/work-{client}", data={"type": "reset"})
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=work, args=(client,)) for client in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(12):
            __main__.collect_garbage(folder)
        stopped.set()
        for thread in threads:
            thread.join()
        assert problems == []
        assert list(check_data(DataFolder(folder))) == []


def test_a_collection_waits_for_work_that_spans_transactions() -> None:
    gate = Gate()
    with gate.shared(), pytest.raises(Busy), gate.exclusive(0.01):
        pass
    with gate.exclusive(0.01):
        entered = threading.Event()

        def enter() -> None:
            with gate.shared():
                entered.set()

        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.05)
    thread.join(5)
    assert entered.is_set()


def damage_blob(data: Path) -> str:
    blobs(data)[0].write_bytes(b"x" * blobs(data)[0].stat().st_size)
    return "does not have the checksum its name says"


def shorten_blob(data: Path) -> str:
    blob = next(path for path in blobs(data) if path.stat().st_size > 3)
    blob.write_bytes(b"")
    return "has 0 bytes, not"


def remove_blob(data: Path) -> str:
    blobs(data)[0].unlink()
    return "No such file or directory"


def edit(statement: str) -> Callable[[Path], None]:
    def run(data: Path) -> None:
        with sqlite3.connect(data / "metadata.db") as connection:
            connection.execute(statement)
        connection.close()

    return run


LIVE_ROOT = (
    "(SELECT root FROM commits WHERE id = (SELECT head FROM branches WHERE name = 'main' AND repository = 1))"
)
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "blob changed": (damage_blob, "does not have the checksum its name says"),
    "blob shortened": (shorten_blob, "has 0 bytes, not"),
    "blob gone": (remove_blob, "No such file or directory"),
    "node gone": (edit(f"DELETE FROM nodes WHERE id = {LIVE_ROOT}"), "is missing"),
    "node changed": (
        edit(f"UPDATE nodes SET data = zeroblob(40) WHERE id = {LIVE_ROOT}"),
        "does not have the content its id says",
    ),
    "commit gone": (
        edit(
            "DELETE FROM commits WHERE id = (SELECT head FROM branches WHERE name = 'main' AND repository = 1)"
        ),
        "is missing",
    ),
    "commit changed": (edit("UPDATE commits SET message = 'forged'"), "does not say what its id says"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGE)
def test_the_check_finds_damage(folder: Path, kind: str) -> None:
    __main__.collect_garbage(folder)
    assert list(check_data(DataFolder(folder))) == []
    damage, message = DAMAGE[kind]
    damage(folder)
    problems = list(check_data(DataFolder(folder)))
    assert problems and all(message in problem for problem in problems), problems


def test_the_check_finds_a_damaged_database(folder: Path) -> None:
    with (folder / "metadata.db").open("r+b") as file:
        file.seek(8192 * 3)
        file.write(os.urandom(8192 * 2))
    assert any("database" in problem or "missing" in problem for problem in check_data(DataFolder(folder)))


def test_the_commands_say_what_they_found(folder: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        answer = subprocess.run(
            [sys.executable, "-m", "lakefs_local", *arguments, "--data", str(folder)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        return answer.returncode, answer.stdout

    code, output = run("gc")
    assert code == 0 and "blobs removed: 3\n" in output
    assert run("fsck") == (0, "no problems found\n")
    remove_blob(folder)
    code, output = run("fsck")
    assert code == 1 and output.endswith("1 problems found\n")
