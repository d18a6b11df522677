"""What docs/operations.md tells people to type exists, and each of its rows is held by a test that is there."""

import re
from functools import cache
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from resources.home import ROOT
from visionops.cli.command_line import app

PAGE = ROOT / "docs" / "operations.md"
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ")
][2:]


@cache
def commands() -> TyperGroup:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def wrong_with(command: str) -> str | None:
    """Why `visionops …` cannot be typed so; None where it can."""
    words = command.split()[1:]
    found: Any = commands()
    while isinstance(found, TyperGroup) and words:
        name = words.pop(0)
        if name not in found.commands:
            return f"{name} is no command of {found.name}"
        found = found.commands[name]
    known = {option for each in found.params for option in each.opts}
    strange = [word for word in words if word.startswith("-") and word not in known]
    return f"{found.name} has no option {strange[0]}" if strange else None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_a_row_is_held_by_tests_and_names_what_exists(row: list[str]) -> None:
    assert len(row) == 4, row
    happens, seen, typed, held = row
    assert happens and typed
    files = re.findall(r"`(tests/[^`]+)`", held)
    assert files
    for file in files:
        assert (ROOT / file).is_file(), file
        assert re.search(r"^def test_", (ROOT / file).read_text(), re.MULTILINE), file
    for command in re.findall(r"`(visionops [^`]+)`", f"{happens} {seen} {typed}"):
        assert wrong_with(command) is None, f"{command}: {wrong_with(command)}"


def test_a_command_that_is_none_is_found() -> None:
    assert len(ROWS) > 20
    assert wrong_with("visionops tick P --again") is None
    assert "no option" in (wrong_with("visionops tick P --once more") or "")
    assert "no command" in (wrong_with("visionops home fly") or "")
