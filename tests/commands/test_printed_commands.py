"""Every command that is printed can be typed: it is whole, and the command line takes it."""

import ast
import re
import shlex
from collections.abc import Iterator

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from resources.home import ROOT
from visionops.cli.command_line import app

FOLDERS = ("visionops", "visionops_assets", "sensors", "resources", "edge")
# What is filled in and is no single word, by the expression that is; whole command lines are built by `shlex.join`.
FILLED_IN = {
    **dict.fromkeys(("on", "asked", "named", "unverified", "group_option(group)"), ""),
    "group_of": "shapes --group line-1",
    "option": "--port",
    "explains": "status",
}
BUILT = {"shlex.join(onwards)", "old", "new"}


@pytest.mark.slow
def test_every_printed_command_is_taken_by_the_command_line() -> None:
    found = list(printed())
    assert len(found) > 150
    assert [f"{where}: {command}: {why}" for where, command in found if (why := why_not(command))] == []


def printed() -> Iterator[tuple[str, str]]:
    """Where a command is printed, and the command."""
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            for line, text in texts(ast.parse(file.read_text())):
                whole = [text] if re.match(r"visionops [a-z]", text) and "`" not in text else []
                for command in re.findall(r"`(visionops [^`]+)`", text) + whole:
                    if not any(f"{{{each}}}" in command for each in BUILT):
                        yield f"{file.relative_to(ROOT)}:{line}", command


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each text that may be printed, what is filled in between braces; not what documents code or an option."""
    passed_over: set[ast.AST] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            passed_over.add(body[0].value)
        if isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            passed_over.update(ast.walk(node.value))
        if isinstance(node, ast.JoinedStr):
            passed_over.update(each for each in ast.walk(node) if each is not node)
    for node in ast.walk(tree):
        if node in passed_over:
            continue
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(map(_part, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _part(part: ast.expr) -> str:
    return (
        f"{{{ast.unparse(part.value)}}}" if isinstance(part, ast.FormattedValue) else ast.literal_eval(part)
    )


def why_not(command: str) -> str | None:
    """Why a command cannot be typed as it is printed."""
    if "…" in command or "..." in command:
        return "it is not whole"
    words = shlex.split(re.sub(r"\{([^{}]+)\}", lambda found: FILLED_IN.get(found[1], "1"), command))[1:]
    verb = get_command(app)
    while isinstance(verb, TyperGroup) and words and words[0] in verb.commands:
        verb = verb.commands[words.pop(0)]
    try:
        verb.make_context(command, words)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
