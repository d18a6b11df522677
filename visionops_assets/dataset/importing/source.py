"""What every format is read into."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TypedDict

from resources.escaping import one_line

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif", ".jp2", ".j2k"),
)

LONGEST_QUOTE = 80
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


def quoted(value: object, *, plain: bool = False) -> str:
    """What stands in somebody's file, as a message shows it: on one line, escaped, and no more than 80 characters."""
    # A text of gigabytes is not looked at whole.
    if isinstance(value, str):
        value = (
            value
            if len(value) <= LONGEST_QUOTE
            else f"{value[: LONGEST_QUOTE // 2]}…{value[-LONGEST_QUOTE // 2 :]}"
        )
    return one_line(value if plain else repr(value), LONGEST_QUOTE)


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
