"""What the make commands install: locks with hashes, the pins and ranges they agree with, and their licences."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from resources.home import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CORE = PROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
# Each lock holds what the extras beside it ask for and those before it do not.
LOCKS: dict[str, tuple[str, ...]] = {
    "requirements.lock": (),
    "requirements-extras.lock": ("wandb", "dvc", "postgres", "yolox"),
    "requirements-dev.lock": ("wandb", "dvc", "postgres", "yolox", "dev"),
}
# By the kind of processor and of GPU there are other builds, and their users choose.
CHOSEN_BY_USERS = {"torch", "torchvision"}
(OF_ANY_TORCH,) = (each["requires-dist"] for each in PROJECT["tool"]["uv"]["dependency-metadata"])
OF_OUR_CODE = ("visionops", "visionops_assets", "resources", "sensors", "lakefs_local", "webserver", "edge")
# How licences that CONTRIBUTING names are written in metadata.
LICENCES = {
    "Apache": r"apache([- ]2\.0( license)?|[- ]software[- ]license)?( with llvm-exception)?",
    "MIT": r"mit(-0)?( license)?",
    "BSD": r"((new|3-clause) )?bsd([- ][23][- ]clause)?( license)?",
    "PSF": r"psf-2\.0|python software foundation license",
    "HPND": r"hpnd|mit-cmu",
    "MPL-2.0": r"mpl-2\.0|mozilla public license 2\.0 \(mpl 2\.0\)",
    "ISC": r"isc( license \(iscl\))?",
    "Zlib": r"zlib",
    "0BSD": r"0bsd",
    "CC0": r"cc0-1\.0",
    "BSL-1.0": r"bsl-1\.0",
    "CNRI-Python": r"cnri-python",
    "TCL": r"tcl",
}
PERMITS = {"MIT": "Permission is hereby granted, free of charge", "Apache": "Apache License"}


@cache
def locked(name: str) -> dict[str, tuple[Version, tuple[str, ...]]]:
    """Version and hashes of each package of a lock, as pip reads the file: joined lines, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.M).replace("\\\n", " ")
    found: dict[str, tuple[Version, tuple[str, ...]]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        pinned, *hashes = line.split()
        package, _, version = pinned.partition("==")
        assert canonicalize_name(package) not in found, f"{name}: {package} stands twice"
        found[canonicalize_name(package)] = Version(version), tuple(hashes)
    return found


def everything() -> dict[str, Version]:
    return {package: version for name in LOCKS for package, (version, _) in locked(name).items()}


@cache
def pinned() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    found: dict[str, Version] = {canonicalize_name(package): Version(version) for package, version in pairs}
    assert len(found) == len(lines), "constraints.txt pins each package once"
    return found


def asked_for(requirements: Iterable[str]) -> set[str]:
    """The packages that requirements ask for, and those ask for, by what is installed."""
    waiting = [Requirement(each) for each in requirements]
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        found.add(name)
        for text in OF_ANY_TORCH if name == "torch" else metadata.requires(name) or []:
            then = Requirement(text)
            if then.marker is None or any(
                then.marker.evaluate({"extra": extra}) for extra in {"", *wanted.extras}
            ):
                waiting.append(then)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_nothing_but_versions_and_their_hashes(name: str):
    assert len(locked(name)) > 20
    for package, (_, hashes) in locked(name).items():
        assert hashes, f"{name}: {package} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), package
    assert "://" not in (ROOT / name).read_text(), "where packages come from is everybody's own"
    assert not [each for each in locked(name) if re.match("torch$|torchvision|triton|nvidia|cuda", each)]


def test_locks_and_constraints_pin_the_same():
    assert sum(len(locked(name)) for name in LOCKS) == len(everything()), "each package stands in one lock"
    assert pinned() == everything() | {package: pinned()[package] for package in CHOSEN_BY_USERS}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_what_the_project_asks_for_and_no_more(name: str):
    stated = [*CORE, *(each for extra in LOCKS[name] for each in EXTRAS[extra])]
    for text in stated:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned()[canonicalize_name(wanted.name)], prereleases=True), text
    before = list(LOCKS)[: list(LOCKS).index(name) + 1]
    there = {package for each in before for package in locked(each)}
    assert there == asked_for(stated) - CHOSEN_BY_USERS


def test_the_package_runs_with_the_core_alone():
    """What loads with a module comes with the core: an extra is imported by the function that needs it."""
    core = asked_for(CORE)
    owners = metadata.packages_distributions()
    wrong = []
    for file in [
        ROOT / "definitions.py",
        *(file for top in OF_OUR_CODE for file in (ROOT / top).rglob("*.py")),
    ]:
        for name in loaded_with(ast.parse(file.read_text())):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in OF_OUR_CODE or top == "definitions":
                continue
            if not {canonicalize_name(owner) for owner in owners.get(top, [])} & core:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong


def loaded_with(tree: ast.AST) -> Iterator[str]:
    """What a module imports when it is loaded."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        yield from loaded_with(node)


def commands(target: str, folder: Path) -> str:
    """What make would run for a target where nothing is installed."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", *LOCKS):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("target", ["demo", "dev", "test", "test-all", "lint", "fuzz", "benchmark"])
def test_make_installs_the_core_for_users_and_the_rest_for_tests(target: str, tmp_path: Path):
    said = commands(target, tmp_path)
    installed = [name for name in LOCKS if re.search(rf"--requirement {re.escape(name)}\b", said)]
    assert installed == (["requirements.lock"] if target in ("demo", "dev") else list(LOCKS))
    by_hash = re.findall(r"pip install (.*)--requirement", said)
    assert by_hash and all("--require-hashes" in each and "--no-deps" in each for each in by_hash)


def test_the_licences_of_the_core_are_those_that_contributing_names():
    sentence = re.search(r"Licences: (.+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert sentence
    named = [text for licence, text in LICENCES.items() if re.search(rf"\b{licence}\b", sentence[1])]
    packages = [*locked("requirements.lock"), *sorted(CHOSEN_BY_USERS)]
    found = {package: list(licences(package)) for package in packages}
    assert [package for package in packages if not found[package]] == []
    others = {
        (package, licence)
        for package in packages
        for licence in found[package]
        if not any(re.fullmatch(text, licence, re.IGNORECASE) for text in named)
    }
    assert not others


def licences(name: str) -> Iterator[str]:
    """The licences of a package: by its expression, else its classifiers, else its field, else its file."""
    about = metadata.metadata(name)
    stated = (about.get_all("License-Expression") or [""])[0]
    classified = [
        each.rpartition(" :: ")[2] for each in about.get_all("Classifier") or [] if "License ::" in each
    ]
    classified = [each for each in classified if each != "OSI Approved"]
    field = (about.get_all("License") or [""])[0].strip()
    if stated or (field and not classified and "\n" not in field):
        yield from re.split(r" (?:AND|OR) ", stated or field)
    elif classified:
        yield from classified
    else:
        files = [
            each for each in metadata.files(name) or [] if re.search("licen[cs]e", each.name, re.IGNORECASE)
        ]
        texts = [each.read_text() for each in files]
        yield from (licence for licence, says in PERMITS.items() if any(says in text for text in texts))
