"""The table of docs/operations.md: what it quotes is what a test finds printed."""

import re
from functools import cache

from resources.home import ROOT

PAGE = ROOT / "docs" / "operations.md"
# What a quoted command begins with.
COMMANDS = {"visionops", "status", "project"}
# What stands for something else in a quoted sentence.
PLACEHOLDER = re.compile(r"\b(?:FILE|FOLDER|NAME|PROJECT|DAY|NEW|OLD|[NMAB])\b")


@cache
def rows() -> list[list[str]]:
    """What happens, what is seen, what to type, held by which tests; a list a row."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| ")
    ][2:]


def sentences(seen: str) -> list[str]:
    """The sentences that a cell quotes; names of commands, fields and metrics are none."""
    quotes = re.findall(r"`([^`]+)`", seen)
    return [each for each in quotes if " " in each and each.split()[0] not in COMMANDS]


def require_told(happens: str, *said: str) -> None:
    """Every sentence that the row quotes is in what was printed. `happens` is how the row begins."""
    found = [row for row in rows() if row[0].startswith(happens)]
    assert len(found) == 1, f"{len(found)} rows of {PAGE.name} begin with {happens!r}"
    quoted, printed = sentences(found[0][1]), " ".join(" ".join(said).split())
    assert quoted, found[0]
    for sentence in quoted:
        assert re.search(_pattern(sentence), printed), f"{sentence!r} is not in {printed}"


def _pattern(sentence: str) -> str:
    parts = re.split(rf"(…|{PLACEHOLDER.pattern})", sentence.strip(" …"))
    return "".join(
        ".*?" if part == "…" else r"\S+" if PLACEHOLDER.fullmatch(part) else re.escape(part) for part in parts
    )
