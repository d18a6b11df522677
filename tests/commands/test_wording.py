"""What a command says is said once, and its help wraps where the terminal ends."""

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from resources import home
from visionops.cli.command_line import app
from visionops.cli.demo import _seen
from visionops.tick import Tick
from visionops_assets.common.findings import Finding, findings_in_words, findings_table
from visionops_assets.dataset.versions.manifest_diff import _counted
from visionops_assets.shells.run_outcomes import outcome_in_words


@pytest.mark.parametrize(
    ("outcome", "reason", "said"),
    [
        ("published", "published", "published"),
        ("insufficient", "INSUFFICIENT: nothing changes.", "INSUFFICIENT: nothing changes."),
        ("awaiting_approval", "PASS: it is better.", "awaiting approval: PASS: it is better."),
        ("promoted", "PASS: it is better.", "promoted: PASS: it is better."),
        ("error", "", "error"),
        ("refused", "refused by hand", "refused: refused by hand"),
    ],
)
def test_an_outcome_is_not_said_twice(outcome: str, reason: str, said: str) -> None:
    assert outcome_in_words(outcome, reason) == said


def test_the_demo_says_an_outcome_as_tick_does() -> None:
    waits = Tick("digits", "2026", "run", "awaiting_approval", "PASS: it is better.", 1.25)
    assert _seen(waits) == "awaiting approval: PASS: it is better. (1.2 s)"
    assert (
        _seen(Tick("digits", None, None, None, "nothing new", 0.04)) == "nothing to do: nothing new (0.0 s)"
    )
    refused = Tick("digits", "2026", "run", "insufficient", "INSUFFICIENT: too few images.", 1)
    assert _seen(refused).count("INSUFFICIENT") == 1


def test_of_many_classes_the_rest_is_counted() -> None:
    counts = pd.Series({str(number): 20 - number for number in range(10)})
    assert _counted(counts).endswith("7: 13, 2 others: 23")
    assert _counted(counts.head(9)).endswith("7: 13, 1 other: 12")
    assert _counted(counts.head(8)).endswith("7: 13")


def helps(commands: typer.Typer) -> Iterator[tuple[str, str]]:
    """Every command with its help."""
    for command in commands.registered_commands:
        assert command.callback is not None
        yield command.name or command.callback.__name__, command.help or ""
    for group in commands.registered_groups:
        assert group.typer_instance is not None
        yield from helps(group.typer_instance)


def test_the_help_of_every_command_is_there_and_its_paragraphs_flow() -> None:
    found = dict(helps(app))
    assert len(found) > 30
    for name, text in found.items():
        assert text, f"{name} has no help"
        assert all("\n" not in paragraph for paragraph in text.split("\n\n")), name


@pytest.mark.parametrize(
    ("command", "option", "says"),
    [
        ("demo --days 1_0", "--days", "write 10"),
        ("up --port 3000 --mlflow-port=5_000", "--mlflow-port", "write 5000"),
        ("predict shapes image.png --min-score 0.5_0", "--min-score", "write 0.50"),
    ],
)
def test_a_number_with_underscores_is_refused(command: str, option: str, says: str) -> None:
    ended = CliRunner().invoke(app, command.split())
    assert ended.exit_code == 2
    assert option in ended.output and says in ended.output


def test_the_version_is_said_without_a_home_and_nothing_is_made(tmp_path: Path) -> None:
    environment = {**os.environ, "VISIONOPS_HOME": str(tmp_path / "home")}
    said = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "visionops", "--version"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"visionops {importlib.metadata.version('visionops')}\n"
    imported = {line.rpartition("|")[2].strip() for line in said.stderr.splitlines()}
    assert not imported & {"torch", "dagster", "mlflow", "pandas", "evidently"}
    assert not (tmp_path / "home").exists()


def test_one_finding_about_many_images_is_not_counted_as_one() -> None:
    about_many = Finding(
        "named as written", "0.png", "is called '0': 120 names of images differ", "so", "WARN"
    )
    told = findings_in_words(
        findings_table([about_many, Finding("complete", "1.png", "is not there", "add it")])
    )
    assert "WARN named as written\n" in told and "ERROR complete\n" in told
    both = findings_in_words(
        findings_table([Finding("complete", f"{n}.png", "is gone", "add") for n in (1, 2)])
    )
    assert both.startswith("ERROR complete: 2\n")


# The page on devices is about another command, on another machine.
PAGES = sorted(set(home.ROOT.glob("docs/*.md")) - {home.ROOT / "docs/delivery.md"})


@pytest.mark.parametrize("page", [home.ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_a_page_with_commands_says_how_they_are_found(page: Path) -> None:
    text = page.read_text()
    assert ".venv/bin/visionops" not in text, "one way of writing it: visionops"
    if re.search(r"(`|^)visionops [a-z]", text, re.MULTILINE):
        assert ". .venv/bin/activate" in text
