"""How the house is divided: rooms of a size that one finds things in, with fronts that nobody reaches behind."""

import ast
import functools
import importlib
import inspect
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median
from types import CodeType

import pytest
import typer

from resources.home import ROOT
from tests.test_architecture import ALONE, HEAVY, ORDER, imports_of
from visionops.cli.command_line import app

MOST_MODULES_OF_A_FOLDER = 25
MOST_LINES = 400
FEWEST_LINES = 50
MOST_SMALL_MODULES = 40
# What a function takes that takes many, and how many may: a command takes what can be typed.
MANY_PARAMETERS = 8
MOST_WITH_MANY = 5
PACKAGES = sorted(
    file.parent.relative_to(ROOT).as_posix().replace("/", ".")
    for top in (*ORDER, *ALONE)
    for file in (ROOT / top).rglob("__init__.py")
)
# File names that say what every stage has; others stand once.
OF_EVERY_STAGE = {
    "__init__",
    "__main__",
    "assets",
    "checks",
    "jobs",
    "presentation",
    "classification",
    "detection",
}


def modules() -> Iterator[tuple[str, Path]]:
    for top in (*ORDER, *ALONE):
        for file in [ROOT / f"{top}.py", *sorted((ROOT / top).rglob("*.py"))]:
            if file.is_file() and "build" not in file.parts:
                name = file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
                yield name.removesuffix(".__init__"), file


@functools.cache
def arrows() -> dict[str, set[str]]:
    """Which modules each imports of ours, wherever in it and for whatever: lazily and for types too."""
    known = dict(modules())
    found: dict[str, set[str]] = defaultdict(set)
    for module, file in known.items():
        for name, _ in imports_of(file):
            if name in known and name != module and name not in PACKAGES:
                found[module].add(name)
    return found


def test_no_folder_has_more_modules_than_one_finds_things_in():
    folders = Counter(file.parent.relative_to(ROOT).as_posix() for _, file in modules())
    assert {folder: number for folder, number in folders.items() if number > MOST_MODULES_OF_A_FOLDER} == {}


def test_modules_are_of_a_size_that_one_reads():
    lines = {name: file.read_text().count("\n") for name, file in modules()}
    assert {name: number for name, number in lines.items() if number > MOST_LINES} == {}
    assert 90 <= median(lines.values()) <= 230
    small = [name for name, number in lines.items() if number < FEWEST_LINES and name not in PACKAGES]
    assert len(small) <= MOST_SMALL_MODULES, small


def test_few_functions_take_many_parameters():
    """What travels together is a record."""
    commands = {(code.co_filename, code.co_name) for code in codes_of_commands(app)}
    wide = [
        f"{module}.{function.name}"
        for module, file in modules()
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and number_of_parameters(function.args) >= MANY_PARAMETERS
        and (str(file), function.name) not in commands
    ]
    assert len(wide) <= MOST_WITH_MANY, wide


def codes_of_commands(typed: typer.Typer) -> Iterator[CodeType]:
    for command in typed.registered_commands:
        assert command.callback is not None
        yield inspect.unwrap(command.callback).__code__
    for group in typed.registered_groups:
        assert group.typer_instance is not None
        yield from codes_of_commands(group.typer_instance)


def number_of_parameters(given: ast.arguments) -> int:
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    several = [each for each in (given.vararg, given.kwarg) if each is not None]
    return len([each for each in named if each.arg not in ("self", "cls")]) + len(several)


def test_no_two_modules_import_each_other_in_a_circle():
    try:
        list(TopologicalSorter(arrows()).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_what_a_module_does_when_it_is_run_stands_last():
    """Before what stands below it is defined, it would run without it."""
    for name, file in modules():
        body = ast.parse(file.read_text()).body
        run = [ast.unparse(each.test).startswith("__name__ ==") for each in body if isinstance(each, ast.If)]
        last = isinstance(body[-1], ast.If) and ast.unparse(body[-1].test).startswith("__name__ ==")
        assert sum(run) == last, name


def test_a_file_name_stands_once():
    names = Counter(file.stem for _, file in modules())
    assert {name for name, number in names.items() if number > 1} <= OF_EVERY_STAGE | KEPT_TWICE


# What is entered by its name on disk, or is the same thing on two sides of an arrow.
KEPT_TWICE = {"databases", "rollback", "train", "delivery", "settings"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_front_says_what_the_room_is_for_and_what_others_may_use(package: str):
    room = importlib.import_module(package)
    assert room.__doc__
    assert room.__all__ == sorted(room.__all__)
    for name in room.__all__:
        assert hasattr(room, name) or importlib.import_module(f"{package}.{name}")


def test_nobody_reaches_behind_a_front():
    wrong = []
    for module, targets in arrows().items():
        for target in targets:
            parts = target.split(".")
            for depth in range(1, len(parts)):
                package = ".".join(parts[:depth])
                inside = module == package or module.startswith(f"{package}.")
                if not inside and parts[depth] not in importlib.import_module(package).__all__:
                    wrong.append(f"{module} imports {target}: {package} does not name {parts[depth]}")
    assert not wrong


def test_a_front_names_nothing_that_no_other_room_uses():
    used: dict[str, set[str]] = defaultdict(set)
    for module, targets in arrows().items():
        for target in targets:
            parts = target.split(".")
            for depth in range(1, len(parts)):
                package = ".".join(parts[:depth])
                if not (module == package or module.startswith(f"{package}.")):
                    used[package].add(parts[depth])
    for package in PACKAGES:
        named = {name for name in importlib.import_module(package).__all__ if not name.startswith("_")}
        assert named == used[package] or package in FOR_USERS, package


# What users import themselves: their rooms name more than others of ours use.
FOR_USERS = {"visionops", "edge"}


def test_fronts_load_nothing_heavy():
    script = f"import sys, json\nfor each in {PACKAGES!r}: __import__(each)\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert not loaded & {*HEAVY, "dagster", "numpy", "PIL", "tuf", "starlette"}
