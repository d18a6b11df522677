"""Room is kept where there is plenty, and given up when the disk is full."""

import os
import shutil
from pathlib import Path

import pytest

from resources import home


def test_room_is_taken_once_and_given_up(tmp_path: Path) -> None:
    home.keep_reserve(tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_blocks * 512 >= home.RESERVE_BYTES, "the room is taken, not only promised"
    before = file.stat().st_ino
    home.keep_reserve(tmp_path)
    assert file.stat().st_ino == before
    home.give_up_reserve(tmp_path)
    home.give_up_reserve(tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_command_is_kept_from_a_home_without_room_or_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.keep_reserve(tmp_path / "missing")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 98, 2))  # type: ignore[attr-defined]
        home.keep_reserve(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    home.keep_reserve(tmp_path)
    assert not list(tmp_path.iterdir())
