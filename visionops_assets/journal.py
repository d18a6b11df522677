"""Numbered entries in the tags of a registered model: written once, never edited.

The tag's name is a prefix and six digits, its value one JSON object with a `format`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from visionops_assets.refusals import HistoryUnreadable

DECISIONS = "visionops.decision."
ANSWERS = "visionops.approval."


class Entry(BaseModel):
    """What all entries share."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    number: int

    def to_json(self) -> str:
        """The tag's value."""
        return self.model_dump_json(by_alias=True, exclude_none=False)


AnyEntry = TypeVar("AnyEntry", bound=Entry)


@dataclass(frozen=True)
class Journal(Generic[AnyEntry]):
    """The entries under one prefix, oldest first; `unreadable` names the tags that are no such entry."""

    entries: tuple[AnyEntry, ...]
    unreadable: tuple[str, ...]
    next_number: int


def read(tags: Mapping[str, str], prefix: str, kind: type[AnyEntry]) -> Journal[AnyEntry]:
    """Read all entries under `prefix` from a registered model's tags."""
    entries: list[AnyEntry] = []
    unreadable: list[str] = []
    numbers = [0]
    for name in sorted(tag for tag in tags if re.fullmatch(re.escape(prefix) + r"\d{6}", tag)):
        number = int(name.removeprefix(prefix))
        numbers.append(number)
        try:
            entry = kind.model_validate_json(tags[name])
        except ValidationError:
            unreadable.append(name)
            continue
        if entry.number == number:
            entries.append(entry)
        else:
            unreadable.append(name)
    return Journal(tuple(entries), tuple(unreadable), max(numbers) + 1)


def tag_name(prefix: str, number: int) -> str:
    """The tag of one entry."""
    return f"{prefix}{number:06d}"


def require_readable(journal: Journal[AnyEntry], project: str) -> None:
    """Raise `HistoryUnreadable` if any entry cannot be read: it may be a hold or a rejection."""
    if journal.unreadable:
        raise HistoryUnreadable(
            f"tag {journal.unreadable[0]} of registered model {project} is no entry of format 1: "
            "restore it from MLflow's backup, or use the release of VisionOps that wrote it"
        )
