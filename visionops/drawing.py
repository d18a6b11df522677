"""Answers drawn on the images that they are about."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from edge.images.decode import decode_whole
from visionops_assets.images.pictures import (
    Colour,
    Mark,
    encoded,
    kind_of,
    marked,
    viewing_scale,
    written_under,
)

# Told apart by eye, also by most who see fewer colours (Okabe and Ito's, without black).
PALETTE: Sequence[Colour] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
# Above so many pixels a lossless file takes seconds and megabytes.
_LOSSLESS_PIXELS = 1 << 20


class Drawings:
    """Pictures in a new folder, one for each image that was answered. They are written to `made`, which becomes
    `folder` when it is whole."""

    def __init__(self, folder: Path, made: Path, classes: Sequence[str]) -> None:
        self._folder, self._made = folder, made
        self._colours = {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(classes)}
        self._taken: dict[str, int] = {}

    def draw(self, file: Path, data: bytes, told: Mapping[str, Any]) -> Path:
        """Draw one answer as `predict` gives it; where it will be."""
        pixels = decode_whole(data, str(file), 3)
        height, width = pixels.shape[:2]
        boxes = told.get("boxes")
        marks = [
            Mark(box, f"{box['label']} {box['score']:.2f}", self._colour(box["label"]))
            for box in reversed(boxes or ())
        ]
        # Enlarged where it is tiny, never reduced: what was found may be small.
        picture = marked(pixels, marks, max(1.0, viewing_scale(height, width)))
        return self._write(file, written_under(picture, [file.name, in_words(told)]))

    def _colour(self, label: str) -> Colour:
        return self._colours.get(label, PALETTE[zlib.crc32(label.encode()) % len(PALETTE)])

    def _write(self, file: Path, picture: Image.Image) -> Path:
        number = self._taken[file.stem] = self._taken.get(file.stem, 0) + 1
        name = file.stem if number == 1 else f"{file.stem} ({number})"
        if picture.width * picture.height > _LOSSLESS_PIXELS:
            picture.save(self._made / f"{name}.jpeg", "JPEG", quality=90)
            return self._folder / f"{name}.jpeg"
        content = encoded(picture)
        (self._made / f"{name}.{kind_of(content)}").write_bytes(content)
        return self._folder / f"{name}.{kind_of(content)}"


def in_words(told: Mapping[str, Any]) -> str:
    """An answer in one line."""
    if "boxes" in told:
        return ", ".join(f"{box['label']} {box['score']:.2f}" for box in told["boxes"]) or "nothing"
    return f"{told['prediction']} {told['confidence']:.2f}"
