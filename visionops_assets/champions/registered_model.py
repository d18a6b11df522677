"""What promotion needs of the model registry (`resources.models.registry.ModelRegistry` has it), and the numbered
entries in the tags of a registered model: written once, never edited.

An entry's tag is a prefix and six digits, its value one JSON object with a `format`.
"""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from resources.models.records import EVERYWHERE, ModelVersion, RegisteredModel, Run
from visionops_assets.common.errors import HistoryUnreadable

DECISION_ENTRIES = "visionops.decision."
ANSWER_ENTRIES = "visionops.approval."
Outcome = Literal["PASS", "FAIL", "INSUFFICIENT"]
AnswerKind = Literal["approve", "reject", "override"]


class LostRuns(Protocol):
    """Runs that MLflow does not know any more."""

    def lacking(self, version: ModelVersion) -> str | None: ...

    def read(self, version: ModelVersion, path: str) -> bytes | None: ...


class Runs(Protocol):
    """Training runs."""

    @property
    def lost(self) -> LostRuns: ...

    def get(self, run_id: str) -> Run: ...

    def restore(
        self,
        version: ModelVersion,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        dataset: tuple[str, str, str] | None,
    ) -> None: ...


class Artifacts(Protocol):
    """Files of runs, whole or absent."""

    def put_bytes(self, run_id: str, path: str, data: bytes) -> None: ...

    def read_bytes(self, run_id: str, path: str) -> bytes: ...

    def sha256(self, run_id: str, path: str) -> str: ...

    def exists(self, run_id: str, path: str) -> bool: ...


class Models(Protocol):
    """Registered models; each call is atomic, several are not."""

    def get(self, project: str) -> RegisteredModel: ...

    def projects(self) -> list[str]: ...

    def set_tag(self, project: str, key: str, value: str) -> None: ...

    def version(self, project: str, version: int) -> ModelVersion: ...

    def create_version(self, project: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion: ...

    def set_version_tags(self, project: str, version: int, tags: Mapping[str, str]) -> None: ...

    def set_alias(self, project: str, alias: str, version: int) -> None: ...

    def delete_alias(self, project: str, alias: str) -> None: ...

    def recall(self, project: str) -> None: ...


class Registry(Protocol):
    """Runs, their files, registered models, and a lock per project that dies with its holder."""

    @property
    def runs(self) -> Runs: ...

    @property
    def artifacts(self) -> Artifacts: ...

    @property
    def models(self) -> Models: ...

    def lock(self, project: str) -> AbstractContextManager[None]: ...


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


def read_entries(tags: Mapping[str, str], prefix: str, kind: type[AnyEntry]) -> Journal[AnyEntry]:
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


class Answer(Entry):
    """Format 1. `outcome` is the verdict's, which an override leaves as it is. What is answered for all counts for each
    device group, unless that one is answered for since."""

    format: Literal[1] = 1
    kind: AnswerKind
    verdict: str
    outcome: Outcome
    who: str
    when: datetime
    why: str
    group: str = EVERYWHERE

    def to_json(self) -> str:
        """The tag's value; one for all as earlier releases write and read it."""
        return self.model_dump_json(by_alias=True, exclude={"group"} if self.group == EVERYWHERE else None)


def answers_on(tags: Mapping[str, str], group: str = EVERYWHERE) -> dict[str, Answer]:
    """By verdict the answer that counts on a device group; what cannot be read is left out."""
    entries = read_entries(tags, ANSWER_ENTRIES, Answer).entries
    return {entry.verdict: entry for entry in entries if entry.group in (EVERYWHERE, group)}


def answer_to(tags: Mapping[str, str], project: str, verdict: str, group: str = EVERYWHERE) -> Answer | None:
    """The answer that counts for a verdict, or None. Raises `HistoryUnreadable`: it may be a rejection."""
    require_readable(read_entries(tags, ANSWER_ENTRIES, Answer), project)
    return answers_on(tags, group).get(verdict)
