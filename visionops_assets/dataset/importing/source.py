"""What every format is read into."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from io import FileIO
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

import pandas as pd

from visionops_assets.dataset.findings import findings_table

if TYPE_CHECKING:
    from visionops_assets.dataset.importing.columns import Images

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".mpo", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pnm"),
)

# How data sets call the sides of a split that comes with them.
SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "holdout",
    "testing": "holdout",
    "holdout": "holdout",
}


_NOTHING: Mapping[str, object] = MappingProxyType({})


class SourceError(ValueError):
    """A source that cannot be read; the message names file and fix."""


class SourceChanged(SourceError):
    """An image whose bytes are no longer those that were audited."""


class Box(TypedDict):
    """Left, top, width, height in pixels, and the class."""

    x: float
    y: float
    w: float
    h: float
    label: str


@dataclass(frozen=True, slots=True)
class Folder:
    """Reads the file of a name below a folder when called."""

    path: str

    def __call__(self, name: str) -> bytes:
        with FileIO(f"{self.path}/{name}") as file:
            return file.readall()


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image as its source has it: `name` will be its path in the batch; `read` gives its bytes."""

    name: str
    read: Callable[[], bytes]
    label: str | None = None
    boxes: Sequence[Box] | None = None
    split: str | None = None
    group: str | None = None
    captured_at: datetime | None = None
    source: str | None = None
    extra: Mapping[str, object] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True)
class Source:
    """All images of a source that have annotations, sorted by name, and what was odd about the rest."""

    format: str
    images: "Images"
    findings: pd.DataFrame = field(default_factory=lambda: findings_table([]))
    # What must live for as long as images may be read.
    keeps: object = None


def split_in_name(name: str) -> str | None:
    """The split that a file's or folder's name speaks of (`instances_val2017`, `images/test`), if any."""
    words = re.findall("[a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), None)


def unchanged(image: SourceImage, sha256: str) -> bytes:
    """The bytes of an image once more. Raises `SourceChanged` when they are not those with this SHA-256."""
    try:
        data = image.read()
    except OSError as error:
        raise SourceChanged(f"{image.name} could be read a moment ago: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SourceChanged(
            f"{image.name} changed while it was imported; import the batch again when it is complete"
        )
    return data
