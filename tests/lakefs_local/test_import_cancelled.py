"""Whoever is told that an import was cancelled does not find it committed, at whatever moment that was."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from lakefs_local import import_job
from lakefs_local.catalog import repositories
from lakefs_local.catalog.committing import Statement
from lakefs_local.catalog.conventions import Conflict
from lakefs_local.data_folder import DataFolder
from lakefs_local.hooks.guarded import Guarded
from lakefs_local.import_job import Imports, Status
from lakefs_local.import_sources import Source, entries
from lakefs_local.store import Store


class Importing:
    """A server's store with one import, which is asked to stop where a test says."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "a").write_bytes(b"a")
        self.store = Store(DataFolder(folder / "data"), [self.source])
        self.guarded = Guarded(self.store)
        self.imports = Imports(self.store, self.guarded)
        self.repository = self.store.database.write(
            lambda session: repositories.create_repository(
                session, "one", "local://one", "main", read_only=False, metadata={}
            )
        ).result()
        self.answers: list[bool] = []

    def cancel(self) -> None:
        with self.store.database.read() as session:
            (started,) = session.one("SELECT id FROM imports")
            try:
                self.imports.cancel(session, self.repository, "main", started)
                self.answers.append(True)
            except Conflict:
                self.answers.append(False)

    def run(self) -> tuple[Status, bool]:
        """How it ended, and whether the branch has moved."""
        with self.store.database.read() as session:
            before = repositories.get_branch(session, self.repository.id, "main").head
        source = Source(f"local://{self.source}/", "in/", True)
        started = self.imports.start("one", "main", [source], Statement("imported", {}, 0), force=False)
        deadline = time.monotonic() + 30
        while self.imports.running:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        with self.store.database.read() as session:
            status = self.imports.status(session, self.repository, "main", started)
            return status, repositories.get_branch(session, self.repository.id, "main").head != before


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    return Importing(tmp_path)


def test_after_the_last_object_it_still_stops(importing: Importing, monkeypatch: pytest.MonkeyPatch) -> None:
    def then_cancelled(*arguments: Any) -> Any:
        yield from entries(*arguments)
        importing.cancel()

    monkeypatch.setattr(import_job, "entries", then_cancelled)
    status, moved = importing.run()
    assert importing.answers == [True]
    assert not status.completed and "canceled" in status.error and not moved


def test_while_it_commits_it_is_too_late(importing: Importing, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = importing.guarded.import_commit

    def cancelled_first(*arguments: Any, **options: Any) -> Any:
        importing.cancel()
        return commit(*arguments, **options)

    monkeypatch.setattr(importing.guarded, "import_commit", cancelled_first)
    status, moved = importing.run()
    assert importing.answers == [False]
    assert status.completed and moved


@pytest.mark.parametrize("fails", [False, True])
def test_once_its_end_is_stored_it_is_too_late(
    importing: Importing, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    if fails:
        (importing.source / "a").unlink()
        importing.source.rmdir()
    write = importing.store.database.write

    def cancelled_after(change: Callable[..., Any]) -> "Future[Any]":
        done = write(change)
        done.result()
        with importing.store.database.read() as session:
            (state,) = session.one("SELECT state FROM imports")
        if state != "running":
            importing.cancel()
        return done

    monkeypatch.setattr(importing.store.database, "write", cancelled_after)
    status, moved = importing.run()
    assert importing.answers == [False]
    assert status.completed == moved == (not fails)
