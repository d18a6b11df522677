"""The code that made a model, as files: its git revision in a temporary worktree, with the uncommitted change."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resources.machine_errors import hardly_any_room
from visionops_assets.training.code_digest import ROOT, git
from visionops_assets.training.provenance import CodeOrigin

# A hook of the user's must not run in a worktree that the user never sees.
_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class InputMissing(Exception):
    """A recorded input that is not there any more; becomes a difference of the certificate."""

    def __init__(self, name: str, expected: str, found: str = "missing") -> None:
        super().__init__(f"{name} {expected}: {found}")
        self.name, self.expected, self.found = name, expected, found


@contextmanager
def recorded_sources(
    code: CodeOrigin, patch: bytes | None, folder: Path, root: Path = ROOT
) -> Iterator[Path]:
    """Yield the folder that holds `definitions.py`'s neighbours as they were, for as long as the block lasts.

    `folder` must not exist yet; `patch` is the stored uncommitted change. Where no revision was recorded, or this
    installation is in no git checkout, that is the present code: whether it is the same, its digest tells. Raises
    `InputMissing`.
    """
    top = _top(root)
    if code.revision is None or top is None:
        yield root
        return
    change = _checked_patch(code, patch)
    # What is no commit's name could be an option of git.
    if not _COMMIT.fullmatch(code.revision):
        raise InputMissing("revision", code.revision, "no commit's name")
    try:
        git(top, "cat-file", "-e", f"{code.revision}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise InputMissing(
            "revision", code.revision, "missing in this clone; `git fetch --all` may bring it"
        ) from error
    # What a killed reproduction left behind.
    git(top, "worktree", "prune")
    try:
        _check_out(top, folder, code.revision)
        if change:
            _apply(folder, code, change)
        yield folder / root.resolve().relative_to(top)
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            git(top, "worktree", "remove", "--force", str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _check_out(top: Path, folder: Path, revision: str) -> None:
    try:
        git(top, *_QUIET, "worktree", "add", "--detach", "--force", str(folder), revision)
    except subprocess.CalledProcessError as error:
        said = str(error.stderr).strip()
        # git does not always say why it could not write.
        if os.strerror(errno.ENOSPC) in said or hardly_any_room(folder.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        reason = (said.splitlines() or ["no reason given"])[-1]
        raise InputMissing("revision", revision, f"git cannot check it out: {reason}") from error


def _top(root: Path) -> Path | None:
    try:
        return Path(git(root, "rev-parse", "--show-toplevel").strip()).resolve()
    except (OSError, subprocess.CalledProcessError):
        return None


def _checked_patch(code: CodeOrigin, patch: bytes | None) -> bytes:
    if code.uncommitted_sha256 is None:
        return b""
    if patch is None:
        raise InputMissing("uncommitted change", code.uncommitted_sha256)
    found = hashlib.sha256(patch).hexdigest()
    if found != code.uncommitted_sha256:
        raise InputMissing("uncommitted change", code.uncommitted_sha256, f"{found}, altered")
    return patch


def _apply(folder: Path, code: CodeOrigin, change: bytes) -> None:
    file = folder.with_name(f"{folder.name}.patch")
    file.write_bytes(change)
    try:
        git(folder, "apply", "--whitespace=nowarn", str(file))
    except subprocess.CalledProcessError as error:
        said = str(error.stderr).strip().splitlines() or ["no reason given"]
        raise InputMissing(
            "uncommitted change", code.uncommitted_sha256 or "", f"does not apply: {said[0]}"
        ) from error
    finally:
        file.unlink(missing_ok=True)
