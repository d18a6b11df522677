"""Exit code 0 means that what was asked is done, or that there was nothing to do and nothing is wrong.

Every verb is asked in every situation: one that needs what is away ends with 1 and one line that names it.
"""

import sys

import pytest
import yaml
from desk import Desk
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from resources.machine_errors import in_words
from tests.world import write_batch
from visionops.bug_report import is_bug
from visionops.cli.command_line import app

NOBODY = "http://127.0.0.1:9"
# How each verb is asked, and what it cannot do without: the project's file (p), lakeFS (l), MLflow (m).
VERBS = {
    "approve shapes": "pm",
    "compare shapes 1 2": "lm",
    "diff shapes week-01 main": "pl",
    "export dvc shapes week-01 --to FOLDER/dvc": "pl",
    "findings shapes week-01": "pl",
    "hold shapes --why x": "pm",
    "import shapes FOLDER/batch --batch week-02": "plm",
    "labels export shapes --to FOLDER/labels": "p",
    "predict shapes FOLDER/image": "pm",
    "project list": "m",
    "override shapes --why x": "pm",
    "promote shapes --group line-1 --why x": "pm",
    "reject shapes --why x": "pm",
    "release shapes --why x": "pm",
    "reproduce shapes --inputs-only": "m",
    "retract shapes week-77 --why x": "pl",
    "rollback shapes --why x": "m",
    "serve shapes --host 256.0.0.1": "pm",
    "status shapes": "pm",
    "submit shapes 0123": "pm",
    "tick shapes": "plm",
    "train shapes": "pl",
    "verify shapes week-01": "pl",
    "webhook install shapes": "pl",
    "what-if shapes": "plm",
    "why shapes": "pm",
}
# What names no project, or is asked in a test of its own.
OTHERS = (
    "comment",
    "demo",
    "doctor",
    "fleet",
    "home",
    "init",
    "inspect",
    "metrics",
    "models",
    "project rename",
    "rollout",
    "up",
    "webhook serve",
    "weights fetch",
)
SITUATIONS = {
    "lakeFS is away": (
        "l",
        {"LAKEFS_ENDPOINT": NOBODY, "LAKEFS_ACCESS_KEY_ID": "a", "LAKEFS_SECRET_ACCESS_KEY": "b"},
    ),
    "MLflow is away": ("m", {"MLFLOW_TRACKING_URI": NOBODY}),
    "the project is unknown": ("p", {}),
    "its file is bad": ("p", {}),
}


def ask(line: str) -> tuple[int, str]:
    """Exit code and what is said, as `visionops` itself ends."""
    # Each command is a process of its own: it loads the code location as the project files are now.
    sys.modules.pop("definitions", None)
    result = CliRunner().invoke(app, line.split())
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        # What is a mistake of ours, whatever the situation.
        if is_bug(error):
            raise error
        return 1, f"{result.output}error: {in_words(error)}"
    return result.exit_code, result.output


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_cannot_be_done_ends_with_1_and_says_why(
    desk_of_promoted: Desk,
    situation: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
):
    world, folder = desk_of_promoted.world, tmp_path_factory.mktemp("asked")
    write_batch(folder / "batch", 12, seed=9)
    (folder / "image").write_bytes(next((folder / "batch").glob("*.png")).read_bytes())
    monkeypatch.setenv("DAGSTER_HOME", str(world.instance.root_directory))
    missing, variables = SITUATIONS[situation]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if situation == "its file is bad":
        file = world.root / "projects" / "shapes.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "classes": 3}))
    named = {
        "l": NOBODY,
        "m": NOBODY,
        "p": "shapes.yaml" if "file" in situation else "no project is called shape;",
    }
    for verb, needs in VERBS.items():
        if missing not in needs:
            continue
        line = verb.replace("shapes", "shape") if "unknown" in situation else verb
        code, said = ask(line.replace("FOLDER", str(folder)))
        assert code == 1, f"{situation}: {verb} ends with {code}: {said}"
        last = said.strip().splitlines()[-1]
        assert "error: " in last and named[missing] in last, f"{situation}: {verb}: {said}"


def test_every_verb_is_asked():
    strange = [
        verb
        for verb in _verbs()
        if not verb.startswith(OTHERS) and not any(_asks(line, verb) for line in VERBS)
    ]
    assert strange == []


def _asks(line: str, verb: str) -> bool:
    return line.split()[: len(verb.split())] == verb.split()


def _verbs() -> list[str]:
    found = []
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        below = command.commands if isinstance(command, TyperGroup) else None
        found += [name] if below is None else [f"{name} {each}" for each in below]
    return found
