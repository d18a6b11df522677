"""That models record no revision of the code is said by `doctor` and by `tick`, with what mends it."""

import os
import subprocess
from pathlib import Path

import pytest
from desk import Desk
from typer.testing import CliRunner

from tests.operations_table import require_told
from visionops.diagnosis import installation
from visionops.diagnosis.checking import rows
from visionops_assets.training import code_digest
from visionops_assets.training.code_digest import why_no_revision

NOBODY = 65534


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone with a commit."""
    folder = tmp_path / "clone"
    who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com"]
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    made = ["git", "-C", str(folder), *who, "commit", "--quiet", "--allow-empty", "--message", "first"]
    subprocess.run(made, check=True)
    return folder


def another_s(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git take a checkout for another user's, as root can make it and as git's own tests pretend."""
    if os.geteuid() == 0:
        for path in (folder, folder / ".git"):
            os.chown(path, NOBODY, NOBODY)
        monkeypatch.delenv("SUDO_UID", raising=False)
    else:
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


def test_a_clone_has_a_revision(checkout: Path):
    assert why_no_revision(checkout) is None


def test_what_git_refuses_to_another_user_is_named_with_the_command(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
):
    another_s(checkout, monkeypatch)
    missing = why_no_revision(checkout)
    assert missing is not None
    assert "belongs to another user" in missing[0]
    assert f"git config --global --add safe.directory {checkout}" in missing[1]


def test_no_clone_and_no_git_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    missing = why_no_revision(tmp_path)
    assert missing is not None and "is no git checkout" in missing[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = why_no_revision(tmp_path)
    assert missing is not None and missing[1] == "install git"


def test_doctor_and_tick_say_so_and_go_on(desk: Desk, checkout: Path, monkeypatch: pytest.MonkeyPatch):
    from visionops.cli.command_line import app

    another_s(checkout, monkeypatch)
    monkeypatch.setattr(code_digest.why_no_revision, "__defaults__", (checkout,))
    (row,) = rows([installation.revision()])
    assert (row.state, "safe.directory" in row.fix) == ("warning", True)
    ended = CliRunner().invoke(app, ["tick", "shapes"], catch_exceptions=False)
    assert ended.exit_code == 0
    require_told("git tells no revision of the code", ended.stderr)
    assert "models record no revision" in ended.stderr
    command = next(each for each in ended.stderr.split("`") if "safe.directory" in each)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(checkout.parent / "gitconfig"))
    subprocess.run(command, shell=True, check=True)
    ended = CliRunner().invoke(app, ["tick", "shapes"], catch_exceptions=False)
    assert "revision" not in ended.stderr and ended.exit_code == 0
