"""What the disk under a home can do, and how much is left of it."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from visionops.diagnosis import disks_and_clock


@pytest.mark.parametrize(("gibibytes", "state"), [(50, "ok"), (5, "warning"), (0.5, "broken")])
def test_room_on_the_disk(monkeypatch: pytest.MonkeyPatch, gibibytes: float, state: str, tmp_path: Path):
    free = SimpleNamespace(free=int(gibibytes * disks_and_clock.GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    found = disks_and_clock.room(tmp_path)
    assert (found.state, bool(found.fix)) == (state, state != "ok")


def test_a_disk_that_takes_no_more_files_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 40))
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_files=1000, f_favail=3))
    found = disks_and_clock.room(tmp_path)
    assert (found.state, "room for 3 more files" in found.what) == ("broken", True)


def test_what_is_tried_leaves_nothing(tmp_path: Path):
    assert disks_and_clock.abilities(tmp_path).state in ("ok", "warning")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_file_system_of_the_network_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
):
    mounted = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(tmp_path), fstype=kind),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounted)
    found = disks_and_clock.abilities(tmp_path)
    assert (found.state, kind in found.what) == ("warning", True)
    assert "a disk of this machine" in found.fix
    assert disks_and_clock.kind_of(Path("/")) == "ext4"


@pytest.mark.parametrize(
    ("call", "said"),
    [("fcntl.flock", "it has no locks"), ("os.link", "it has no links"), ("os.fsync", "")],
)
def test_what_a_file_system_cannot_do_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str, said: str
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(call, refuse)
    found = disks_and_clock.abilities(tmp_path)
    assert (found.state, said in found.what) == ("broken", True), found
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_two_hold_at_once_is_no_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    found = disks_and_clock.abilities(tmp_path)
    assert (found.state, "a lock is given to two at once" in found.what) == ("broken", True)
