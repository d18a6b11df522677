"""What a machine says no with is one line that names the thing and what mends it."""

import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy

from lakefs_local.store import _unusable
from resources.machine_errors import damaged_databases, in_words, machine_error


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return tmp_path


def system_error(number: int, file: str | None = "/srv/x") -> OSError:
    return OSError(number, os.strerror(number), file)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no room is left on the disk of /srv/x: free some space"),
        (errno.EDQUOT, "no room is left"),
        (errno.EROFS, "can only be read: set VISIONOPS_HOME"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EIO, "visionops doctor"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_each_says_what_mends_it(number: int, said: str):
    found = machine_error(system_error(number))
    assert found is not None and said in found and len(found.splitlines()) == 1


def test_it_is_found_behind_whatever_was_raised_of_it():
    full = system_error(errno.ENOSPC)
    wrapped = RuntimeError("the run failed")
    wrapped.__cause__ = ValueError("cannot be stored")
    wrapped.__cause__.__context__ = full
    assert "no room is left" in (machine_error(wrapped) or "")
    full_database = sqlalchemy.exc.OperationalError(
        "INSERT", {}, sqlite3.OperationalError("database or disk is full")
    )
    assert "no room is left" in (machine_error(full_database) or "")


@pytest.mark.parametrize(
    "error",
    [ValueError("a mistake"), FileNotFoundError(errno.ENOENT, "no", "/x"), TimeoutError("late"), OSError()],
)
def test_what_is_no_fault_of_the_machine_is_left_alone(error: Exception):
    assert machine_error(error) is None


def test_a_file_of_another_user_is_named_with_both(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    (place / "file").touch()
    found = machine_error(system_error(errno.EACCES, str(place / "file"))) or ""
    assert "and this is user 4242" in found and f"chown -R user 4242 {place}" in found


@pytest.mark.parametrize(
    ("file", "lost"),
    [
        ("dagster/history/runs.db", "no model and no verdict"),
        ("mlflow/mlflow.db", "every model and verdict"),
        ("lakefs/metadata.db", "every commit"),
    ],
)
@pytest.mark.parametrize("how", ["garbage", "truncated"])
def test_a_damaged_database_is_named_with_what_it_holds(place: Path, file: str, lost: str, how: str):
    database, sound = place / file, place / "mlflow" / "sound.db"
    for each in (database, sound):
        each.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(each)) as connection, connection:
            connection.execute("CREATE TABLE t (x)")
            connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
    assert damaged_databases() == []
    database.write_bytes(os.urandom(5000) if how == "garbage" else database.read_bytes()[:9000])
    assert damaged_databases() == [database]
    said = machine_error(sqlite3.DatabaseError("file is not a database")) or ""
    assert said.startswith(f"{database} is damaged: restore it from a backup") and lost in said


def test_what_somebody_wrote_of_it_is_told_as_it_is():
    written = OSError(errno.ENOSPC, "tables/x could not be stored in s3://team; nothing was changed")
    assert "nothing was changed" in in_words(written) and machine_error(written) is not None
    assert in_words(RuntimeError("start it")) == "start it"
    assert "no room is left" in in_words(system_error(errno.ENOSPC))


def test_a_real_disk_that_is_full(place: Path):
    """`/dev/full` takes no byte, whoever writes."""
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    assert "no room is left" in (machine_error(caught.value) or "")
    assert shutil.disk_usage(place).free > 0


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """The home's MLflow folder on a file system of its own, of half a megabyte."""
    folder = place / "mlflow"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("file systems may not be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_without_room_for_shared_memory_is_full_and_not_broken(small_disk: Path) -> None:
    file = small_disk / "mlflow.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (a)")
    with suppress(OSError), (small_disk / "fill").open("wb", buffering=0) as filling:
        while True:
            filling.write(bytes(4096))
    with closing(sqlite3.connect(file)) as connection, pytest.raises(sqlite3.OperationalError) as raised:
        connection.execute("SELECT * FROM t").fetchall()
    assert "disk I/O error" in str(raised.value)
    assert "no room is left on the disk" in in_words(raised.value)
    said = _unusable(small_disk / "metadata.db", raised.value)
    assert "metadata.db cannot be opened: no room is left on its disk" in said
    (small_disk / "fill").unlink()
    assert "no room is left on the disk" in in_words(raised.value), "what was kept in reserve is free by then"


def test_an_input_output_error_on_a_disk_with_room_is_the_disks(place: Path) -> None:
    said = in_words(sqlite3.OperationalError("disk I/O error"))
    assert said == f"the disk of {place} fails (input/output error): `visionops doctor` tries it"
