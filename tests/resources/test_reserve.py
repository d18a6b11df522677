"""Room is kept where there is plenty, and given up when the disk is full."""

import os
import shutil
from pathlib import Path

import pytest

from resources import reserve


def test_room_is_taken_once_and_given_up(tmp_path: Path) -> None:
    reserve.keep(tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_blocks * 512 >= reserve.BYTES, "the room is taken, not only promised"
    before = file.stat().st_ino
    reserve.keep(tmp_path)
    assert file.stat().st_ino == before
    reserve.give_up(tmp_path)
    reserve.give_up(tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_command_is_kept_from_a_home_without_room_or_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve.keep(tmp_path / "missing")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 98, 2))  # type: ignore[attr-defined]
        reserve.keep(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    reserve.keep(tmp_path)
    assert not list(tmp_path.iterdir())
