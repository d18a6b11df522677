"""The code of then comes back whole, and leaves no trace in the user's repository."""

import hashlib
from pathlib import Path

import pytest
from past_and_present import commit_all, git

from visionops_assets.reproduction.recorded_world import InputMissing, recorded_sources
from visionops_assets.training.code_digest import code_state
from visionops_assets.training.provenance import CodeOrigin


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose project lies in a folder of it, with an uncommitted change."""
    folder = tmp_path / "repository" / "project"
    folder.mkdir(parents=True)
    git(folder.parent, "init", "-q")
    (folder / "model.py").write_text("width = 1\n")
    commit_all(folder.parent, "first")
    (folder / "model.py").write_text("width = 2\n")
    (folder / "added.py").write_text("new = True\n")
    return folder


def recorded(folder: Path) -> tuple[CodeOrigin, bytes]:
    """What a training records of the code at this moment."""
    state = code_state(folder)
    assert state is not None
    change = state.uncommitted.encode(errors="surrogateescape")
    origin = CodeOrigin(digest="d" * 64, revision=state.revision, uncommitted_sha256=state.uncommitted_sha256)
    return origin, change


def test_revision_and_uncommitted_change_come_back_and_the_checkout_stays_as_it_is(
    checkout: Path, tmp_path: Path
) -> None:
    origin, change = recorded(checkout)
    commit_all(checkout.parent, "keep the change")
    (checkout / "model.py").write_text("width = 3\n")
    hook = checkout.parent / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    before = git(checkout, "status", "--porcelain")
    with recorded_sources(origin, change, tmp_path / "code", checkout) as sources:
        assert (sources / "model.py").read_text() == "width = 2\n"
        assert (sources / "added.py").read_text() == "new = True\n"
    assert not (tmp_path / "code").exists()
    assert not (tmp_path / "hooked").exists()
    assert git(checkout, "worktree", "list").count("\n") == 0
    assert git(checkout, "status", "--porcelain") == before
    assert (checkout / "model.py").read_text() == "width = 3\n"


def test_what_a_killed_reproduction_left_does_not_stop_the_next_one(checkout: Path, tmp_path: Path) -> None:
    origin, change = recorded(checkout)
    killed = recorded_sources(origin, change, tmp_path / "code", checkout)
    killed.__enter__()
    for file in sorted((tmp_path / "code").rglob("*"), reverse=True):
        file.unlink() if not file.is_dir() else file.rmdir()
    (tmp_path / "code").rmdir()
    with recorded_sources(origin, change, tmp_path / "code", checkout) as sources:
        assert (sources / "model.py").read_text() == "width = 2\n"


def test_a_change_that_is_missing_altered_or_does_not_apply_is_named(checkout: Path, tmp_path: Path) -> None:
    origin, change = recorded(checkout)
    strange = b"no patch at all\n"
    for patch, code, found in (
        (None, origin, "missing"),
        (change + b"\n", origin, "altered"),
        (
            strange,
            origin.model_copy(update={"uncommitted_sha256": hashlib.sha256(strange).hexdigest()}),
            "apply",
        ),
    ):
        with (
            pytest.raises(InputMissing, match=f"uncommitted change.*{found}"),
            recorded_sources(code, patch, tmp_path / "code", checkout),
        ):
            pytest.fail("there is nothing to run")
    assert git(checkout, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize(
    "revision", ["--upload-pack=evil", "-b", "HEAD", "main", "@{-1}", "f" * 39, "F" * 40]
)
def test_what_is_no_commits_name_does_not_reach_git(checkout: Path, tmp_path: Path, revision: str) -> None:
    origin = CodeOrigin(digest="d" * 64, revision=revision, uncommitted_sha256=None)
    with (
        pytest.raises(InputMissing, match="no commit's name"),
        recorded_sources(origin, None, tmp_path / "code", checkout),
    ):
        pytest.fail("there is nothing to run")


def test_without_git_the_present_code_stands_in_and_its_digest_will_tell(tmp_path: Path) -> None:
    origin = CodeOrigin(digest="d" * 64, revision="f" * 40, uncommitted_sha256=None)
    with recorded_sources(origin, None, tmp_path / "code", tmp_path) as sources:
        assert sources == tmp_path
