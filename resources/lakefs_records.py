"""What lakeFS answers, as plain records."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Commit:
    """One commit. `created_at` is UTC."""

    id: str
    parents: tuple[str, ...]
    message: str
    committer: str
    created_at: datetime.datetime
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One object of a tree. `checksum` is an opaque version, not always a hash of the content."""

    path: str
    checksum: str
    size: int
    physical_address: str


@dataclass(frozen=True)
class Change:
    """One path that differs. `kind` is added, removed, changed or conflict."""

    path: str
    kind: str


def commit_from(found: Mapping[str, Any]) -> Commit:
    """A commit as the server's JSON has it."""
    return Commit(
        id=found["id"],
        parents=tuple(found["parents"]),
        message=found["message"],
        committer=found["committer"],
        created_at=datetime.datetime.fromtimestamp(found["creation_date"], datetime.UTC),
        metadata=dict(found.get("metadata") or {}),
    )
