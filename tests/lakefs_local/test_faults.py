"""A full disk, a folder that is gone: a clear error, nothing stored by halves, and work goes on afterwards."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from lakefs_api import Api, Repository

from lakefs_local import discovery
from lakefs_local.data_folder import DataFolder, FolderError
from lakefs_local.discovery import serving
from lakefs_local.http import app
from lakefs_local.maintenance import check_data
from lakefs_local.serve import Options, RunningServer
from tests.operations_table import require_told


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningServer]:
    """A server whose insides can be reached."""
    from lakefs_local.serve import in_thread

    with in_thread(Options(tmp_path / "data")) as started:
        yield started


@pytest.fixture
def stored(running: RunningServer) -> Repository:
    """A repository with one committed object."""
    server = discovery.running(running.folder.path)
    assert server is not None
    repository = Repository(Api(server), "faulty")
    repository.put("main", "kept", b"kept")
    repository.commit("main")
    return repository


def upload(repository: Repository, path: str = "new", content: bytes = b"new"):  # type: ignore[no-untyped-def]
    return repository.call("POST", "/branches/main/objects", {"path": path}, body=content)


def test_a_disk_full_of_blobs_is_said_and_leaves_nothing(
    stored: Repository, running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        refused = upload(stored)
    assert (refused.status, "full" in refused.message) == (507, True)
    assert stored.diff("main") == {}
    assert list((running.folder.path / "incoming").iterdir()) == []
    assert upload(stored).status == 201
    assert list(check_data(DataFolder(running.folder.path))) == []


def test_a_disk_that_fills_while_syncing_is_said_and_leaves_nothing(
    stored: Repository, running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert upload(stored).status == 507
    assert stored.diff("main") == {}
    assert upload(stored).status == 201
    assert list(check_data(DataFolder(running.folder.path))) == []


def limit_database(running: RunningServer, pages: int | None) -> None:
    """Let the database grow no further than now plus `pages`; None: without limit."""

    def limit(session) -> None:  # type: ignore[no-untyped-def]
        used = session.one("PRAGMA page_count")[0]
        session.one(f"PRAGMA max_page_count = {used + pages if pages is not None else 1 << 30}")

    running.store.database.write(limit).result()


def test_a_database_that_cannot_grow_refuses_a_commit_whole(
    stored: Repository, running: RunningServer
) -> None:
    head = stored.head("main")
    for number in range(200):
        stored.put("main", f"object/{number:04d}", b"%d" % number, x_lakefs_meta_note="n" * 200)
    staged = stored.diff("main")
    limit_database(running, 2)
    refused = stored.call("POST", "/branches/main/commits", data={"message": "m"})
    assert (refused.status, "full" in refused.message) == (507, True)
    assert (stored.head("main"), stored.diff("main")) == (head, staged)
    limit_database(running, None)
    stored.commit("main")
    assert len(stored.paths("main")) == 201
    assert list(check_data(DataFolder(running.folder.path))) == []


def test_a_blob_folder_that_vanishes_fails_uploads_and_nothing_else(
    stored: Repository, running: RunningServer
) -> None:
    blobs = running.folder.path / "blobs"
    blobs.rename(blobs.with_name("away"))
    refused = upload(stored)
    assert (refused.status, "nothing was stored" in refused.message) == (500, True)
    assert stored.get("main", "kept").status == 410
    assert stored.paths("main") == ["kept"]
    blobs.with_name("away").rename(blobs)
    assert upload(stored).status == 201
    assert stored.get("main", "kept").body == b"kept"


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(FolderError, match="cannot write to the data folder"),
        serving(tmp_path / "file" / "data"),
    ):
        pass
    with pytest.raises(FolderError, match="cannot use the data folder"):
        discovery.ensure_running(tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused_by_name(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FolderError, match="cannot write to the data folder"), serving(tmp_path / "data"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_damaged_database_is_named_with_what_brings_it_back(tmp_path: Path) -> None:
    file = tmp_path / "metadata.db"
    file.write_bytes(b"no database " * 2000)
    with closing(sqlite3.connect(file)) as connection, pytest.raises(sqlite3.DatabaseError) as raised:
        connection.execute("SELECT * FROM sqlite_master")
    refusal = app._storage_failure({"method": "GET", "path": "/"}, raised.value)
    assert refusal.status == 500 and "metadata.db" in refusal.message
    require_told("lakeFS's database is damaged while its server runs", refusal.message)
    assert "is damaged" in refusal.message and "backup" in refusal.message
