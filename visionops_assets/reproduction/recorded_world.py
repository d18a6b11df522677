"""The recorded world of a model: its code as files, and the package versions that made it.

The code is its git revision in a temporary worktree, with the uncommitted change. The packages are those installed
here, else an environment of its own. What is installed is named by a record that somebody may have altered: names
and versions are held to PEP 508 and 440, and only wheels are taken, which run nothing when they are installed.

An environment of its own holds what differs, at the recorded versions, in a folder that stands before the installed
packages: a changed dependency does not cost another torch. Another Python takes all recorded packages.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from resources.error_family import NotFound, Unavailable
from resources.machine_errors import hardly_any_room
from resources.safe_files import whole_folder
from visionops_assets.training.code_digest import ROOT, git
from visionops_assets.training.provenance import CodeOrigin

# A hook of the user's must not run in a worktree that the user never sees.
_QUIET_GIT = ("-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# The code itself, which comes from git, and what installs: neither computes.
NOT_INSTALLED = frozenset({"python", "visionops", "pip"})
_LAST_LINES = 3
_PACKAGES_SHOWN = 8
_LONGEST = 80
RunCommand = Callable[[Sequence[str]], None]
FindPython = Callable[[str], str | None]


class InputMissing(NotFound):
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
    top = _top_of_repository(root)
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
            _apply_patch(folder, code, change)
        yield folder / root.resolve().relative_to(top)
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            git(top, "worktree", "remove", "--force", str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _check_out(top: Path, folder: Path, revision: str) -> None:
    try:
        git(top, *_QUIET_GIT, "worktree", "add", "--detach", "--force", str(folder), revision)
    except subprocess.CalledProcessError as error:
        said = str(error.stderr).strip()
        # git does not always say why it could not write.
        if os.strerror(errno.ENOSPC) in said or hardly_any_room(folder.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        reason = (said.splitlines() or ["no reason given"])[-1]
        raise InputMissing("revision", revision, f"git cannot check it out: {reason}") from error


def _top_of_repository(root: Path) -> Path | None:
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


def _apply_patch(folder: Path, code: CodeOrigin, change: bytes) -> None:
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


class EnvironmentUnavailable(Unavailable, RuntimeError):
    """The recorded versions cannot be had here; the message names them and the way out."""


@dataclass(frozen=True)
class EnvironmentPlan:
    """How to have the recorded versions: `packages` as pip takes them, none if the present ones will do.

    `python` runs the training. With `whole`, everything recorded is installed for another Python.
    """

    python: str
    packages: tuple[str, ...]
    whole: bool = False

    @property
    def words(self) -> str:
        """What it comes to, in words."""
        if not self.packages:
            return "packages: those installed here"
        shown = ", ".join(self.packages[:_PACKAGES_SHOWN]) + (
            ", …" if len(self.packages) > _PACKAGES_SHOWN else ""
        )
        return f"packages: {'all' if self.whole else 'those installed here, but'} {shown}"

    @property
    def name(self) -> str:
        """The folder's name: the same plan finds what it installed before."""
        content = "\n".join((self.python, str(self.whole), *self.packages))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def command(self, target: Path) -> list[str]:
        """The pip command that installs the packages into the folder `target`, and nothing that is not recorded."""
        return [
            self.python, "-m", "pip", "install", "--no-deps", "--no-input", "--quiet", "--disable-pip-version-check",
            "--only-binary", ":all:", "--target", str(target), "--", *self.packages,
        ]  # fmt: skip


def plan_environment(
    recorded: Mapping[str, str],
    present: Mapping[str, str],
    *,
    python: str = sys.executable,
    find_python: FindPython = shutil.which,
) -> EnvironmentPlan:
    """Decide which environment has the recorded versions. Both map name -> version, with `python` among them.

    The present one will do if it has each recorded package at its version; what it has besides is not in the way.
    Raises `EnvironmentUnavailable` where another Python is needed and not installed, or the record names what is no
    package.
    """
    wanted = {name: version for name, version in recorded.items() if name not in NOT_INSTALLED}
    if "python" not in recorded:
        raise EnvironmentUnavailable("the record does not say with which Python the version was trained")
    here, there = _python_minor(present["python"]), _python_minor(recorded["python"])
    if here != there:
        found = find_python(f"python{there}")
        if found is None:
            raise EnvironmentUnavailable(
                f"the version was trained with Python {recorded['python']}, here is {present['python']}: install "
                f"python{there}, or let --present-versions train with what is here and list what differs"
            )
        return EnvironmentPlan(found, _pinned(wanted), whole=True)
    return EnvironmentPlan(python, _pinned({n: v for n, v in wanted.items() if present.get(n) != v}))


def present_environment() -> EnvironmentPlan:
    """The environment of this process, whatever was recorded."""
    return EnvironmentPlan(sys.executable, ())


def build_environment(planned: EnvironmentPlan, folder: Path, run: RunCommand | None = None) -> Path | None:
    """Install what `planned` asks for under `folder`, once; return the folder to put before all others on the path.

    None where the present packages will do. It appears whole or not at all. Raises `EnvironmentUnavailable`.
    """
    if not planned.packages:
        return None
    target = folder / planned.name
    if target.is_dir():
        return target
    try:
        with whole_folder(target) as unfinished:
            (run or _run_command)(planned.command(unfinished))
    except subprocess.CalledProcessError as error:
        said = " ".join(str(error.stderr).strip().splitlines()[-_LAST_LINES:]) or "pip said nothing"
        raise EnvironmentUnavailable(
            f"the recorded versions cannot be installed ({', '.join(planned.packages[:_PACKAGES_SHOWN])}): {said}. Set "
            "PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to where their wheels are (`pip wheel` makes one of sources), or "
            "let --present-versions train with what is here and list what differs"
        ) from error
    except OSError as error:
        if not target.is_dir():
            raise EnvironmentUnavailable(f"{target} cannot be written: {error.strerror}") from error
    return target


def _run_command(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _pinned(packages: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{_package_name(name)}=={_package_version(name, version)}"
        for name, version in sorted(packages.items())
    )


def _package_name(name: str) -> str:
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName as error:
        raise EnvironmentUnavailable(
            f"the record names a package {name[:_LONGEST]!r}, no package's name by PEP 508: nothing is installed"
        ) from error


def _package_version(name: str, version: str) -> Version:
    try:
        if version != version.strip():
            raise InvalidVersion(version)
        return Version(version)
    except InvalidVersion as error:
        raise EnvironmentUnavailable(
            f"the record names version {version[:_LONGEST]!r} of {name}, which is no version (PEP 440): nothing is "
            "installed; --present-versions trains with what is here and lists what differs"
        ) from error


def _python_minor(version: str) -> str:
    found = _package_version("python", version)
    return f"{found.major}.{found.minor}"
