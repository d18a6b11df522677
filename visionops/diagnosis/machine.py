"""This machine: Python, installed versions, folders, disk."""

import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from resources import home
from visionops.diagnosis import Line, State

GIB = 1 << 30
DISK_WANTED, DISK_NEEDED = 10 * GIB, 1 * GIB
# Their wheels break `import lightning` beside a torch for the CPU, and nothing here needs them.
UNWANTED = ("torchvision",)


def python() -> Iterator[Line]:
    """The interpreter."""
    yield Line(
        "ok", "python", f"{platform.python_version()} at {sys.executable}, {os.cpu_count()} processors"
    )


def installed_versions() -> Iterator[Line]:
    """Whether what is installed is what the package asks for."""
    from packaging.requirements import Requirement

    checked = 0
    for text in metadata.requires("visionops") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        fix = f"pip install --constraint constraints.txt '{wanted.name}{wanted.specifier}'"
        try:
            found = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield Line("broken", wanted.name, "is not installed", fix)
            continue
        checked += 1
        if not wanted.specifier.contains(found, prereleases=True):
            yield Line("broken", wanted.name, f"{found} is installed, {wanted.specifier} is needed", fix)
    yield Line("ok", "versions", f"{checked} packages looked at")
    for name in UNWANTED:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        yield Line(
            "warning", name, f"{found} is installed; it can break `import lightning`", f"pip uninstall {name}"
        )


def folders_and_disk() -> Iterator[Line]:
    """Where local state goes, and whether there is room."""
    folder = home.home()
    if not os.access(folder, os.W_OK):
        yield Line(
            "broken",
            "home",
            f"{folder} cannot be written",
            "set VISIONOPS_HOME to a folder that can be written",
        )
        return
    free = shutil.disk_usage(folder).free
    state: State = "ok" if free >= DISK_WANTED else "warning" if free >= DISK_NEEDED else "broken"
    fix = "" if state == "ok" else "free some space, or set VISIONOPS_HOME to a larger disk"
    yield Line(state, "home", f"{folder}, {free / GIB:,.1f} GiB free", fix)


def keys() -> Iterator[Line]:
    """Who makes changes, and whether the embedded lakeFS keeps its key to itself."""
    actor = os.environ.get("VISIONOPS_ACTOR", "").strip()
    if actor:
        yield Line("ok", "actor", f"changes by hand are recorded as {actor}'s")
    else:
        yield Line(
            "warning",
            "actor",
            "VISIONOPS_ACTOR is not set: approve, rollback, retract and hold are refused",
            "export VISIONOPS_ACTOR=you@example.com",
        )
    credentials = home.lakefs_data() / "credentials.json"
    if credentials.exists() and _others_read(credentials):
        yield Line("broken", "lakeFS key", f"{credentials} can be read by others", f"chmod 600 {credentials}")
    if os.environ.get("LAKEFS_ENDPOINT"):
        wanted = ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY")
        missing = [name for name in wanted if not os.environ.get(name)]
        if missing:
            yield Line("broken", "lakeFS key", f"{' and '.join(missing)} not set", f"export {missing[0]}=…")


def _others_read(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


CHECKS = (python, installed_versions, folders_and_disk, keys)
