"""What a command says is said once, and its help wraps where the terminal ends."""

from collections.abc import Iterator

import pandas as pd
import pytest
import typer

from visionops.command_line import app
from visionops_assets.dataset.manifest_diff import _counted
from visionops_assets.run_reason import in_words


@pytest.mark.parametrize(
    ("outcome", "reason", "said"),
    [
        ("published", "published", "published"),
        ("insufficient", "INSUFFICIENT: nothing changes.", "insufficient: nothing changes."),
        ("promoted", "PASS: it is better.", "promoted: PASS: it is better."),
        ("error", "", "error"),
        ("refused", "refused by hand", "refused: refused by hand"),
    ],
)
def test_an_outcome_is_not_said_twice(outcome: str, reason: str, said: str) -> None:
    assert in_words(outcome, reason) == said


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
