"""What every format is read into, and what became of everything that a source holds: sums that add up."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypedDict

from resources.error_family import Invalid
from resources.escaping import one_line

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif", ".jp2", ".j2k"),
)

LONGEST_QUOTE = 80
_NOTHING: Mapping[str, object] = MappingProxyType({})
_LONGEST = 240


class SourceError(Invalid):
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


@dataclass(frozen=True)
class Sums:
    """`files` seen are images, annotations that were `read`, what is `left_out` with a reason, and what is `no_part` of
    the format by its kind. `images` that were found are stored or left out; `annotations` (boxes, rows, labels) that
    were seen are kept or left out.
    """

    files: int
    image_files: int
    read: int
    no_part: Counter[str] = field(default_factory=Counter)
    files_left_out: Counter[str] = field(default_factory=Counter)
    images: int = 0
    stored: int = 0
    images_left_out: Counter[str] = field(default_factory=Counter)
    annotations: int = 0
    kept: int = 0
    annotations_left_out: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "files": {
                "seen": self.files,
                "images": self.image_files,
                "annotations": self.read,
                "left_out": dict(sorted(self.files_left_out.items())),
                "no_part": dict(sorted(self.no_part.items())),
            },
            "images": {
                "seen": self.images,
                "stored": self.stored,
                "left_out": dict(sorted(self.images_left_out.items())),
            },
            "annotations": {
                "seen": self.annotations,
                "kept": self.kept,
                "left_out": dict(sorted(self.annotations_left_out.items())),
            },
        }

    def in_words(self) -> str:
        """Three lines for people."""
        files = [f"{self.image_files:,} images", f"{self.read:,} of annotations"]
        files += _each(self.files_left_out, "left out: ") + _each(self.no_part, "no part: ")
        images = [f"{self.stored:,} stored", *_each(self.images_left_out, "left out: ")]
        kept = [f"{self.kept:,} kept", *_each(self.annotations_left_out, "left out: ")]
        sums = (
            f"files seen {self.files:,} = {' + '.join(files)}",
            f"images {self.images:,} = {' + '.join(images)}",
            f"annotations {self.annotations:,} = {' + '.join(kept)}",
        )
        return "\n".join(line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…" for line in sums)

    def add_up(self) -> bool:
        """Whether nothing is lost."""
        return (
            self.files == self.image_files + self.read + self.no_part.total() + self.files_left_out.total()
            and self.images == self.stored + self.images_left_out.total()
            and self.annotations == self.kept + self.annotations_left_out.total()
        )


@dataclass(frozen=True)
class SplitSums:
    """Images by split: those of a batch, and of all of `main` with it; `excluded` of the batch leak between splits."""

    batch: Counter[str]
    main: Counter[str]
    excluded: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"batch": _ordered(self.batch), "main": _ordered(self.main), "excluded": self.excluded}

    def in_words(self) -> str:
        """One line for people."""
        shown = ", ".join(f"{name} {times:,}" for name, times in _ordered(self.batch).items())
        left = f", {self.excluded:,} of them excluded" if self.excluded else ""
        held, of = self.main["holdout"], self.main.total()
        return f"splits: {shown}{left}; with it main holds out {held:,} of {of:,} images ({held / max(1, of):.0%})"


def _ordered(splits: Counter[str]) -> dict[str, int]:
    return {name: splits[name] for name in ("train", "val", "holdout")}


def _each(counts: Counter[str], before: str, most: int = 4) -> list[str]:
    shown = [f"{times:,} {before}{what}" for what, times in counts.most_common(most)]
    rest = counts.total() - sum(times for _, times in counts.most_common(most))
    return shown + ([f"{rest:,} others"] if rest else [])
