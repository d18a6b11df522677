"""This machine: Python, installed packages, local folders, project files."""

import os
import platform
import shlex
import stat
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

from resources import home
from resources.settings import given
from visionops.diagnosis.checking import Check, Finding, broken, ok, setting, warning
from visionops_assets.config.project import Project, Projects

# Built for the same torch: a torchvision for another processor or GPU fails where its first operator runs.
BUILT_TOGETHER = ("torch", "torchvision")
# What a setting needs besides, by the name of the extra.
_EXTRAS = {"postgres": ("DAGSTER_POSTGRES_URL", "VISIONOPS_LOCK_URL")}


def checks() -> Iterator[Check]:
    """What is looked at before any service."""
    yield Check("python", sys.executable, "its version", "make a new environment with another Python", python)
    yield Check(
        "packages",
        "pyproject.toml",
        "each requirement against what is installed",
        "pip install --constraint constraints.txt --editable .",
        packages,
    )
    yield Check(
        "home",
        setting("VISIONOPS_HOME", "DAGSTER_HOME", otherwise=f"{home.home()}"),
        "made it, and put Dagster's configuration there",
        "set VISIONOPS_HOME to a folder that can be written",
        _home,
    )


def revision() -> Check:
    """Whether models record which code made them."""
    return Check(
        "revision",
        f"{home.ROOT}",
        "ask git for the revision that models record",
        "install git, and run from a clone",
        _revision,
    )


def project_files(found: Callable[[Projects], None]) -> Check:
    """The project files; `found` is given what they declare."""
    return Check(
        "projects",
        setting("VISIONOPS_PROJECTS", otherwise=f"{home.projects_folder()}"),
        "read every file",
        "correct the files, or VISIONOPS_PROJECTS",
        lambda: _projects(found),
    )


def unusable_files(projects: Projects) -> Iterator[Check]:
    """A row for each project file that cannot be used."""
    for file in projects.unusable:
        why = " ".join(file.why.split())
        fix = f"correct the file; until then {file.project} stands still, and no other project"
        yield Check(
            f"project {file.project}",
            str(file.path),
            "read it",
            fix,
            partial(broken, why, fix),
        )


def definitions() -> Check:
    """Whether the code location loads."""
    return Check(
        "definitions",
        "definitions.py",
        "load it",
        "see the error; --debug of any command has more",
        _definitions,
    )


def credentials() -> Iterator[Check]:
    """Whether the embedded lakeFS keeps its key to itself."""
    file = home.lakefs_data() / "credentials.json"
    yield Check(
        "lakeFS key file",
        str(file),
        "its permissions",
        f"chmod 600 {file}",
        lambda: _kept_to_itself(file),
    )


def python() -> Finding:
    """The interpreter, against what the package asks for."""
    from packaging.specifiers import SpecifierSet

    found = platform.python_version()
    wanted = metadata.metadata("visionops")["Requires-Python"]
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        return broken(
            f"{found} runs, {wanted} is needed",
            "make a new environment with another Python: `make clean demo`",
        )
    return ok(f"{found}, {os.cpu_count()} processors")


def packages() -> Finding:
    """Whether what is installed is what the package, and the settings, ask for."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    extras = {name for name, variables in _EXTRAS.items() if any(given(one) for one in variables)}
    wrong: list[str] = []
    install: list[str] = []
    checked = 0
    for text in metadata.requires("visionops") or []:
        wanted = Requirement(text)
        marker = wanted.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            continue
        checked += 1
        try:
            found = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is not installed")
        else:
            if wanted.specifier.contains(found, prereleases=True):
                continue
            wrong.append(f"{wanted.name} {found} is installed, {wanted.specifier} is needed")
        install.append(f"'{wanted.name}{wanted.specifier}'")
    if wrong:
        return broken("; ".join(wrong), f"pip install --constraint constraints.txt {' '.join(install)}")
    # Of two of one name, the first on the path is the one that is imported.
    together = [each for name in BUILT_TOGETHER for each in [*metadata.distributions(name=name)][:1]]
    if len({Version(each.version).local for each in together}) > 1:
        named = " and ".join(f"{each.name} {each.version}" for each in together)
        return broken(
            f"{named} are of different builds, and fail together",
            "pip install --force-reinstall --no-deps --constraint constraints.txt torch torchvision",
        )
    return ok(f"{checked} requirements are met")


def _home() -> Finding:
    from visionops import bootstrap

    try:
        folder = bootstrap.prepare()
    except bootstrap.SettingUnusable as error:
        fix = "set VISIONOPS_HOME to a folder that can be written"
        return broken(str(error), fix if "VISIONOPS_HOME" in str(error) else "correct the variable")
    for place in (folder, home.dagster_home()):
        if place.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return warning(
                f"{place} is open to others of this machine: it has keys, images and models",
                f"chmod -R go= {shlex.quote(str(place))}, unless you share it on purpose",
            )
    return ok(f"{folder} is there, Dagster's configuration in {home.dagster_home()}")


def _revision() -> Finding:
    from visionops_assets.training.code_digest import why_no_revision

    missing = why_no_revision()
    if missing is None:
        return ok("models record it")
    what, fix = missing
    return warning(f"models record no revision, and cannot be reproduced from git: {what}", fix)


def _projects(take: Callable[[Projects], None]) -> Finding:
    from visionops_assets.config.project import clashes, load_projects

    folder = home.projects_folder()
    if folder.exists() and not folder.is_dir():
        return broken(f"{folder} is no folder", "move the file away, or correct VISIONOPS_PROJECTS")
    if not folder.exists():
        return warning(
            f"{folder} is not there yet, so no project is declared",
            "`visionops init NAME --from FOLDER` makes it; or correct VISIONOPS_PROJECTS",
        )
    found = load_projects(folder)
    take(found)
    if not found and found.unusable:
        return broken("no project file can be used", "correct the files that are named below")
    if not found:
        return warning(f"{folder} has no project file", "`visionops init NAME --from FOLDER` makes one")
    for one, other in clashes(found):
        return broken(
            f"{one.project} and {other.project} keep their labels as annotations {one.annotations} of repository "
            f"{one.repository}, but have not the same task and classes",
            f"give one of them a name of its own, for example `annotations: {other.project}`",
        )
    return ok(", ".join(_named(project) for project in found))


def _definitions() -> Finding:
    import definitions

    assets = definitions.defs.resolve_asset_graph().get_all_asset_keys()
    return ok(f"loads, with {len(assets)} assets")


def _named(project: Project) -> str:
    return f"{project.project} ({project.task})"


def _kept_to_itself(file: Path) -> Finding:
    if not file.exists():
        return ok("none yet; the embedded lakeFS makes it")
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return broken(f"{file} can be read by others", f"chmod 600 {file}")
    return ok("only its owner reads it")
