"""A home that was copied or moved is a home of its own: nothing in it points at where it was."""

import errno
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from desk import Desk

from lakefs_local import discovery
from resources.machine_errors import in_words
from resources.models.local_store import ADDRESSES
from resources.models.mlflow_client import open_client
from tests.operations_table import require_told
from tests.world import write_batch
from visionops import bootstrap
from visionops.cli.homes import HomeNotMoved, move_home


def content(home: Path) -> dict[str, str]:
    """The digest of each file that holds what was made."""
    folders = (home / "mlflow" / "artifacts", home / "artifacts", home / "lakefs" / "blobs")
    return {
        str(file.relative_to(home)): hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file()
    }


def addresses(home: Path) -> set[str]:
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        return {
            value
            for table, column in ADDRESSES
            for (value,) in database.execute(f"SELECT {column} FROM {table}")
            if value and value.startswith("file:")
        }


@pytest.fixture
def copy(desk_of_promoted: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`cp -a` of a home in which somebody works."""
    copied = tmp_path_factory.mktemp("copies") / "home"
    shutil.copytree(desk_of_promoted.world.root, copied, symlinks=True)
    yield copied
    for folder in (copied, copied.with_name("elsewhere")):
        discovery.stop(folder / "lakefs")
    open_client.cache_clear()


@pytest.mark.slow
def test_work_in_a_copied_home_leaves_the_one_it_came_from_alone(
    desk_of_promoted: Desk, copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk, old = desk_of_promoted, desk_of_promoted.world.root
    before = content(old)
    head = desk.world.lakefs.head("shapes", "main").id
    monkeypatch.setenv("VISIONOPS_HOME", str(copy))
    batch = write_batch(copy / "week-02", 120, seed=2)
    desk.run("import", "shapes", str(batch), "--batch", "week-02")
    assert [found["outcome"] for found in desk.json("tick", "shapes")] == ["promoted"]
    assert desk.json("status", "shapes")["champion"]["version"] == 2
    assert content(old) == before
    assert desk.world.lakefs.head("shapes", "main").id == head
    assert desk.world.champion() == 1
    assert all(value.startswith(copy.as_uri()) for value in addresses(copy))
    (told,) = [record.message for record in caplog.records if "was moved or copied from" in record.message]
    require_told("a home was copied, or moved by hand", told)


def test_a_home_moved_by_hand_goes_on_where_it_is(
    desk_of_promoted: Desk, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = copy.rename(copy.with_name("elsewhere"))
    monkeypatch.setenv("VISIONOPS_HOME", str(moved))
    image = next(write_batch(moved / "images", 1, seed=3).glob("*.png"))
    assert "version 1" in desk_of_promoted.run("predict", "shapes", str(image))
    assert all(value.startswith(moved.as_uri()) for value in addresses(moved))


def test_a_home_is_moved_by_one_command_and_only_when_nobody_works_in_it(
    desk_of_promoted: Desk, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = copy.with_name("elsewhere")
    with pytest.raises(HomeNotMoved, match="there already"):
        move_home(copy, copy.parent)
    with pytest.raises(HomeNotMoved, match="inside of"):
        move_home(copy, copy / "inside")
    with pytest.raises(HomeNotMoved, match="no local state"):
        move_home(copy / "artifacts", target)
    made = content(copy)
    monkeypatch.setenv("VISIONOPS_HOME", str(copy))
    assert f"export VISIONOPS_HOME={target}" in desk_of_promoted.run("home", "move", str(target))
    assert not copy.exists() and content(target) == made
    assert all(value.startswith(target.as_uri()) for value in addresses(target))


def test_a_link_to_a_home_is_that_home(desk_of_promoted: Desk, copy: Path, tmp_path: Path) -> None:
    old = addresses(desk_of_promoted.world.root)
    link = copy.with_name("link")
    link.symlink_to(desk_of_promoted.world.root)
    open_client(f"sqlite:///{link / 'mlflow' / 'mlflow.db'}")
    assert addresses(desk_of_promoted.world.root) == old


@pytest.fixture
def on_another_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be renamed, since it lies on another disk: a home."""
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        if path.name == "home" and target.name == "elsewhere":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)


class Killed(BaseException):
    """A process that ends here."""


def killed_at(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(function, die)


# Where a move to another disk may be killed, in its order.
MOVES = [
    "shutil.copy2",
    "resources.safe_files.discard",
    "resources.safe_files._remove",
    "visionops.cli.homes._arrived",
]


@pytest.mark.slow
@pytest.mark.usefixtures("on_another_disk")
@pytest.mark.parametrize("place", MOVES)
def test_a_move_to_another_disk_killed_anywhere_goes_on_and_leaves_one_home(
    copy: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, made = copy.with_name("elsewhere"), content(copy)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, place)
        move_home(copy, target)
    assert any(whole.is_dir() and content(whole) == made for whole in (copy, target)), "one of them is whole"
    if not copy.exists():
        # What every command makes in the home that it is told of.
        monkeypatch.setenv("VISIONOPS_HOME", str(copy))
        monkeypatch.setenv("DAGSTER_HOME", str(copy / "dagster"))
        for name in bootstrap._CACHES:
            monkeypatch.setenv(name, "")
        bootstrap.prepare()
        assert copy.is_dir()
    assert move_home(copy, target) == target
    assert content(target) == made and all(value.startswith(target.as_uri()) for value in addresses(target))
    assert [path.name for path in copy.parent.iterdir()] == ["elsewhere"]


@pytest.mark.usefixtures("on_another_disk")
def test_a_copy_that_somebody_worked_in_is_not_thrown_away(copy: Path) -> None:
    target = copy.with_name("elsewhere")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, "resources.safe_files.discard")
        move_home(copy, target)
    (target / "artifacts" / "new").write_bytes(b"work")
    with pytest.raises(HomeNotMoved, match=f"export VISIONOPS_HOME={target}"):
        move_home(copy, target)
    assert (target / "artifacts" / "new").exists() and (copy / "mlflow").is_dir()


@pytest.mark.usefixtures("on_another_disk")
def test_a_disk_without_room_for_a_home_is_named_and_the_home_stays(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, target = content(copy), copy.with_name("elsewhere")

    def full(source: str, to: str, **_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), to)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError) as raised:
        patch.setattr(shutil, "copy2", full)
        move_home(copy, target)
    assert in_words(raised.value).startswith(f"no room is left on the disk of {target}: ")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(HomeNotMoved, match="1 are free"):
        move_home(copy, target)
    assert content(copy) == made and [path.name for path in copy.parent.iterdir()] == ["home"]
