"""What the release before spelled otherwise: it works once more, and says how it is spelled now."""

import re
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from typer.main import get_command
from typer.testing import CliRunner

from resources.home import ROOT
from visionops.cli.command_line import app
from visionops.cli.old_spellings import OPTIONS, OldSpellingsGroup, respell

SPELLED = [
    ("train shapes --version main -q", "train shapes --dataset-version main -q", "--dataset-version"),
    ("what-if shapes --version=main", "what-if shapes --dataset-version=main", "--dataset-version"),
    ("why shapes --version 1", "why shapes --model-version 1", "--model-version"),
    ("reproduce shapes --version 1", "reproduce shapes --model-version 1", "--model-version"),
    ("rollback shapes --why x --to none", "rollback shapes --why x --model-version none", "--model-version"),
    (
        "fleet publish shapes --group a --version 2",
        "fleet publish shapes --group a --model-version 2",
        "--model-version",
    ),
    (
        "promote shapes --group a --version 2 --why x",
        "promote shapes --group a --model-version 2 --why x",
        "--model-version",
    ),
    ("promote shapes --override --why x", "override shapes --why x", "visionops override PROJECT"),
    ("promote shapes 12ab --why x --override", "override shapes 12ab --why x", "visionops override PROJECT"),
    ("export shapes main --dvc F --json", "export dvc shapes main --to F --json", "--to FOLDER"),
    ("export --dvc=F shapes main", "export dvc --to=F shapes main", "--to FOLDER"),
    ("export dvc main --dvc F", "export dvc dvc main --to F", "--to FOLDER"),
    ("submit 12ab --project shapes -q", "submit shapes 12ab -q", "submit PROJECT RUN"),
    ("submit --project=shapes 12ab", "submit shapes 12ab", "submit PROJECT RUN"),
]
KEPT = [
    "--version",
    "status shapes",
    "export dvc shapes main --to F",
    "findings shapes week-01 --to F.csv",
    "fleet provision shapes --group a --device b --to F",
    "rollback shapes --why --to",
    "rollback shapes --why=--to --leaving 2",
    "promote shapes --group a --why --override",
    "train shapes -- --version",
    "submit shapes 12ab",
    "submit --help",
]


def commands() -> OldSpellingsGroup:
    group = get_command(app)
    assert isinstance(group, OldSpellingsGroup)
    return group


@pytest.mark.parametrize(("old", "new", "named"), SPELLED)
def test_an_old_spelling_is_read_as_the_new_one_which_one_line_names(old: str, new: str, named: str):
    respelled = respell(commands(), old.split())
    assert respelled.arguments == new.split()
    (notice,) = respelled.notices
    assert named in notice and "\n" not in notice


@pytest.mark.parametrize("line", KEPT)
def test_what_is_spelled_as_it_should_be_stays(line: str):
    respelled = respell(commands(), line.split())
    assert (respelled.arguments, respelled.notices) == (line.split(), ())


def test_what_an_option_is_called_now_is_an_option_and_what_it_was_called_is_none():
    for verb, names in OPTIONS.items():
        command: Any = commands()
        for word in verb:
            command = command.commands[word]
        spelled = {name for parameter in command.params for name in parameter.opts}
        assert set(names.values()) <= spelled and not set(names) & spelled


def test_an_old_spelling_does_what_it_did_and_tells_on_standard_error(desk_of_promoted: Desk, tmp_path: Path):
    result = CliRunner().invoke(app, ["why", "shapes", "--version", "1"], catch_exceptions=False)
    assert result.exit_code == 0 and "version 1" in result.stdout
    assert result.stderr.splitlines() == [
        "`visionops why … --version` is spelled `visionops why … --model-version` now; the old spelling goes with "
        "the next release"
    ]
    assert "is spelled" not in result.stdout
    assert desk_of_promoted.run("why", "shapes", "--model-version", "1") == result.stdout


def test_a_run_that_is_submitted_alone_is_of_the_project_that_made_it(desk_of_promoted: Desk):
    registry = desk_of_promoted.world.registry
    run = registry.models.version("shapes", 1).run_id
    respelled = respell(commands(), ["submit", run])
    assert respelled.arguments == ["submit", "shapes", run]
    assert "visionops submit PROJECT RUN" in respelled.notices[0]
    # A project alone lacks its run; what the command says of that is right.
    assert respell(commands(), ["submit", "shapes"]).arguments == ["submit", "shapes"]
    lacking = CliRunner().invoke(app, ["submit", "shapes"])
    assert lacking.exit_code == 2 and "RUN" in lacking.stderr and "spelled" not in lacking.stderr


OLD = re.compile(
    r"visionops (?:rollback\b[^`\n]* --to\b|export (?!dvc)\S+ \S+ --dvc|promote\b[^`\n]* --override|submit RUN"
    r"|(?:train|what-if|why|reproduce|promote|fleet publish)\b[^`\n]* --version\b)"
)


def test_nothing_of_ours_prints_or_teaches_an_old_spelling():
    files = [
        file
        for folder in ("docs", "deploy", "examples", "visionops", "visionops_assets", "sensors", "resources")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".md", ".yml", ".yaml", ".sh") and file.name != "old_spellings.py"
    ]
    files += [ROOT / "README.md", ROOT / "Makefile", ROOT / "CONTRIBUTING.md"]
    found = [f"{file}: {hit.group()}" for file in files for hit in OLD.finditer(file.read_text())]
    assert not found
