"""What docs/operations.md tells people to type exists, and each of its rows is held by a test that is there."""

import re
from functools import cache
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from resources.home import ROOT
from tests.operations_table import require_told, rows, sentences
from visionops.cli.command_line import app

ROWS = rows()


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
    if sentences(seen):
        tests = "".join(text for file in files if "require_told(" in (text := (ROOT / file).read_text()))
        named = re.findall(r'"([^"\n]{12,})"', tests)
        assert any(happens.startswith(each) for each in named), f"no test looks for {sentences(seen)}"
    for command in re.findall(r"`(visionops [^`]+)`", f"{happens} {seen} {typed}"):
        assert wrong_with(command) is None, f"{command}: {wrong_with(command)}"


def test_a_command_that_is_none_is_found() -> None:
    assert len(ROWS) > 20
    assert wrong_with("visionops tick P --again") is None
    assert "no option" in (wrong_with("visionops tick P --once more") or "")
    assert "no command" in (wrong_with("visionops home fly") or "")


def test_what_is_quoted_is_looked_for_word_by_word() -> None:
    said = "version 2 of shapes\n was deleted in MLflow"
    require_told("the champion's version was deleted", said)
    with pytest.raises(AssertionError, match="is not in"):
        require_told("the champion's version was deleted", said.replace("deleted", "removed"))
    with pytest.raises(AssertionError, match="0 rows"):
        require_told("nothing of this kind", said)
