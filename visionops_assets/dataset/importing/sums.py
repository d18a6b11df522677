"""What became of everything that a source holds: sums that add up."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_LONGEST = 240


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


def _each(counts: Counter[str], before: str, most: int = 4) -> list[str]:
    shown = [f"{times:,} {before}{what}" for what, times in counts.most_common(most)]
    rest = counts.total() - sum(times for _, times in counts.most_common(most))
    return shown + ([f"{rest:,} others"] if rest else [])
