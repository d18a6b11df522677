"""Killed at any moment, the server has everything it acknowledged and nothing by halves."""

import http.client
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lakefs_api import Api, Repository
from processes import ServerProcess

from lakefs_local.data_folder import DataFolder
from lakefs_local.discovery import serving
from lakefs_local.maintenance import check_data

WORKERS = 3
pytestmark = pytest.mark.timeout(3600)


class Worker:
    """Writes to a branch of its own, commits, merges into `main`; knows what was acknowledged.

    For each place (staged on the branch, committed there, merged into main) it holds the last acknowledged content
    and, while a request is under way, what that place would hold if it took effect.
    """

    def __init__(self, name: str):
        self.name = name
        self.step = 0
        self.known: dict[str, dict[str, str]] = {"staged": {}, "committed": {}, "merged": {}}
        self.pending: dict[str, dict[str, str]] = {}

    def run(self, repository: Repository, stopped: threading.Event) -> None:
        try:
            while not stopped.is_set():
                self.act(repository)
        except (OSError, http.client.HTTPException):
            # The server was killed under the request: its effect is unknown, and stays in `pending`.
            return

    def act(self, repository: Repository) -> None:
        self.step += 1
        if self.step % 13 == 0 and self.known["merged"] != self.known["committed"]:
            self.pending = {"merged": self.known["committed"]}
            answer = repository.merge(self.name, "main")
            assert answer.status == 200, answer
        elif self.step % 5 == 0 and self.known["committed"] != self.known["staged"]:
            self.pending = {"committed": self.known["staged"]}
            repository.commit(self.name, f"{self.name} {self.step}")
        elif self.step % 7 == 0 and self.known["staged"]:
            path = sorted(self.known["staged"])[self.step % len(self.known["staged"])]
            self.pending = {"staged": {p: c for p, c in self.known["staged"].items() if p != path}}
            repository.delete(self.name, path)
        elif self.step % 11 == 0:
            several = {
                f"{self.name}/several-{number}": f"{self.name} {self.step} {number}" for number in range(5)
            }
            self.pending = {"staged": {**self.known["staged"], **several}}
            repository.put_many(self.name, {path: content.encode() for path, content in several.items()})
        else:
            path, content = f"{self.name}/{self.step % 17}", f"{self.name} {self.step}"
            self.pending = {"staged": {**self.known["staged"], path: content}}
            repository.put(self.name, path, content.encode())
        self.known.update(self.pending)
        self.pending = {}

    def check(self, repository: Repository) -> None:
        """Compare with what the server holds, and take that for known."""
        for place, ref in (("staged", self.name), ("committed", f"{self.name}@"), ("merged", "main@")):
            paths = repository.paths(ref, prefix=f"{self.name}/")
            found = {path: repository.get(ref, path).body.decode() for path in paths}
            assert found in [self.known[place], self.pending.get(place, self.known[place])], (
                place,
                self.pending,
            )
            self.known[place] = found
        self.pending = {}


def test_kills_at_random_moments_lose_nothing(tmp_path: Path, count: Callable[[int, int], int]) -> None:
    data = tmp_path / "data"
    chance = random.Random(20)
    workers = [Worker(f"worker-{number}") for number in range(WORKERS)]
    server = ServerProcess(data)
    repository = Repository(server.api, "crashed")
    for worker in workers:
        repository.branch(worker.name)
    for _ in range(count(10, 200)):
        stopped = threading.Event()
        threads = [threading.Thread(target=worker.run, args=(repository, stopped)) for worker in workers]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.0, 0.25))
        server.kill()
        stopped.set()
        for thread in threads:
            thread.join()
        server = ServerProcess(data)
        repository.api = server.api
        for worker in workers:
            worker.check(repository)
        assert list(check_data(DataFolder(data))) == []
    server.stop()
    assert sum(worker.step for worker in workers) > count(10, 200)
    assert list(check_data(DataFolder(data))) == []


def test_a_folder_left_by_a_kill_can_be_checked_before_it_is_served_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = ServerProcess(data)
    repository = Repository(server.api, "checked")
    repository.put("main", "a", b"1")
    repository.commit("main")
    server.kill()
    assert list(check_data(DataFolder(data))) == []


def test_an_upload_is_on_disk_before_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        fsync(handle)
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))

    with serving(tmp_path / "data") as server:
        repository = Repository(Api(server), "synced")
        monkeypatch.setattr(os, "fsync", recorded)
        address = repository.put("main", "a", b"content")["physical_address"].removeprefix("local://")
    # The bytes under their first name, then the folder that holds the final one; SQLite syncs its own log.
    incoming = [place for place, path in enumerate(synced) if "/incoming/" in path]
    folder = synced.index(str(Path(address).parent))
    assert incoming and incoming[0] < folder


def test_the_database_syncs_every_transaction(tmp_path: Path) -> None:
    from lakefs_local.storage.database import Database

    database = Database(tmp_path / "metadata.db")
    try:
        settings = database.write(
            lambda session: [session.one(f"PRAGMA {name}")[0] for name in ("journal_mode", "synchronous")]
        ).result()
    finally:
        database.close()
    assert settings == ["wal", 2]
