"""The package versions that made a model: those installed here, else an environment of its own.

What is installed is named by a record that somebody may have altered: names and versions are held to PEP 508 and 440,
and only wheels are taken, which run nothing when they are installed.

An environment of its own holds what differs, at the recorded versions, in a folder that stands before the installed
packages: a changed dependency does not cost another torch. Another Python takes all recorded packages.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from resources.whole_outputs import whole_folder

# The code itself, which comes from git, and what installs: neither computes.
NOT_INSTALLED = frozenset({"python", "visionops", "pip"})
_LAST_LINES = 3
_SHOWN = 8
_LONGEST = 80

Run = Callable[[Sequence[str]], None]
FindPython = Callable[[str], str | None]


class EnvironmentUnavailable(RuntimeError):
    """The recorded versions cannot be had here; the message names them and the way out."""


@dataclass(frozen=True)
class Plan:
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
        shown = ", ".join(self.packages[:_SHOWN]) + (", …" if len(self.packages) > _SHOWN else "")
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


def plan(
    recorded: Mapping[str, str],
    present: Mapping[str, str],
    *,
    python: str = sys.executable,
    find_python: FindPython = shutil.which,
) -> Plan:
    """Decide which environment has the recorded versions. Both map name -> version, with `python` among them.

    The present one will do if it has each recorded package at its version; what it has besides is not in the way.
    Raises `EnvironmentUnavailable` where another Python is needed and not installed, or the record names what is no
    package.
    """
    wanted = {name: version for name, version in recorded.items() if name not in NOT_INSTALLED}
    if "python" not in recorded:
        raise EnvironmentUnavailable("the record does not say with which Python the version was trained")
    here, there = _minor(present["python"]), _minor(recorded["python"])
    if here != there:
        found = find_python(f"python{there}")
        if found is None:
            raise EnvironmentUnavailable(
                f"the version was trained with Python {recorded['python']}, here is {present['python']}: install "
                f"python{there}, or let --present-versions train with what is here and list what differs"
            )
        return Plan(found, _pins(wanted), whole=True)
    return Plan(python, _pins({n: v for n, v in wanted.items() if present.get(n) != v}))


def present_plan() -> Plan:
    """The environment of this process, whatever was recorded."""
    return Plan(sys.executable, ())


def build(planned: Plan, folder: Path, run: Run | None = None) -> Path | None:
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
            (run or _run)(planned.command(unfinished))
    except subprocess.CalledProcessError as error:
        said = " ".join(str(error.stderr).strip().splitlines()[-_LAST_LINES:]) or "pip said nothing"
        raise EnvironmentUnavailable(
            f"the recorded versions cannot be installed ({', '.join(planned.packages[:_SHOWN])}): {said}. Set "
            "PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to where their wheels are (`pip wheel` makes one of sources), or "
            "let --present-versions train with what is here and list what differs"
        ) from error
    except OSError as error:
        if not target.is_dir():
            raise EnvironmentUnavailable(f"{target} cannot be written: {error.strerror}") from error
    return target


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _pins(packages: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{_name(name)}=={_version(name, version)}" for name, version in sorted(packages.items()))


def _name(name: str) -> str:
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName as error:
        raise EnvironmentUnavailable(
            f"the record names a package {name[:_LONGEST]!r}, no package's name by PEP 508: nothing is installed"
        ) from error


def _version(name: str, version: str) -> Version:
    try:
        if version != version.strip():
            raise InvalidVersion(version)
        return Version(version)
    except InvalidVersion as error:
        raise EnvironmentUnavailable(
            f"the record names version {version[:_LONGEST]!r} of {name}, which is no version (PEP 440): nothing is "
            "installed; --present-versions trains with what is here and lists what differs"
        ) from error


def _minor(version: str) -> str:
    found = _version("python", version)
    return f"{found.major}.{found.minor}"
