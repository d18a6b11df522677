"""What lies in a batch's folder of a drop."""

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from resources.drop_errors import DropRefused

MARKER = "_SUCCESS"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DropFile:
    """A file by its path in the batch. `version` changes when its content does."""

    name: str
    size: int
    version: str


@dataclass(frozen=True)
class Listing:
    """All files of a batch but hidden ones, by name; `marker` is the version of `_SUCCESS`, if it is there."""

    files: tuple[DropFile, ...]
    marker: str | None

    @cached_property
    def fingerprint(self) -> str:
        """Another one wherever anything changed."""
        return _digest([[file.name, file.size, file.version] for file in self.files] + [self.marker])


@dataclass(frozen=True)
class Sighting:
    """A batch as the sensor sees it. With a marker its version stands for the batch, and nothing is listed."""

    batch: str
    marked: bool
    fingerprint: str


class DropPlace(Protocol):
    """A folder or a bucket with one folder a batch."""

    address: str

    def batches(self) -> list[str]:
        """Names of the batches there, sorted; none where the place is not there yet."""

    def marker(self, batch: str) -> str | None:
        """The version of a batch's marker, if it is there."""

    def listing(self, batch: str) -> Listing:
        """All files of a batch."""

    def fetched(self, batch: str, listing: Listing, progress: Progress) -> AbstractContextManager[Path]:
        """The files of a batch in a folder, while the context lasts."""


def sighting(place: DropPlace, batch: str) -> Sighting:
    """How a batch looks now."""
    marker = place.marker(batch)
    if marker is not None:
        return Sighting(batch, True, _digest([marker]))
    return Sighting(batch, False, place.listing(batch).fingerprint)


def is_hidden(name: str) -> bool:
    """Whether a path has a hidden part, as tools make them for unfinished uploads."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def check_name(address: str, name: str) -> None:
    """Raise `DropRefused` for a path that would lead out of its batch."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or "//" in name:
        raise DropRefused(f"{address}: {name!r} leads out of its batch; rename it")


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
