"""The images of a batch that can be used, as columns; and what is uploaded of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.dataset.examine import Looks
from visionops_assets.dataset.importing.columns import Images
from visionops_assets.dataset.importing.compact_columns import AT_ONCE, MadeInPortions, in_order
from visionops_assets.dataset.importing.file_listing import ascending
from visionops_assets.dataset.importing.source import SourceImage, unchanged

NO_BOXES = ("no boxes",)


@dataclass(frozen=True)
class BatchImages:
    """N images with what they are; `paths` are those in the repository, text (N,)."""

    images: Images
    paths: pa.Array
    looks: Looks

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, places: NDArray[np.int64]) -> "BatchImages":
        """Some of them, in this order."""
        if len(places) == len(self) and ascending(places):
            return self
        paths = self.paths.take(pa.array(places))
        return BatchImages(self.images.take(places), paths, self.looks.take(places))

    def sha256(self, place: int) -> str:
        """The SHA-256 of the image at a place, as hex digits."""
        return str(self.looks.sha256[place].tobytes().hex())

    def ages(self) -> NDArray[np.int64]:
        """The places from the oldest image to the newest; what has no time comes after what has one, by path."""
        by_path = in_order(self.paths)
        if self.images.captured_at is None:
            return by_path
        times = self.images.captured_at
        known = times.is_valid().to_numpy(zero_copy_only=False)
        seconds = times.cast(pa.int64()).fill_null(0).to_numpy() / 1e6
        return by_path[np.lexsort((seconds[by_path], ~known[by_path]))]

    def label_sets(self) -> Iterator[tuple[str, ...]]:
        """The classes of each image, each once."""
        for start in range(0, len(self), AT_ONCE):
            for image in self.images[start : start + AT_ONCE]:
                yield (image.label or "",) if image.boxes is None else classes_of(image.boxes)


def classes_of(boxes: Sequence[Any]) -> tuple[str, ...]:
    """The classes of an image's boxes, each once."""
    return tuple(sorted({box["label"] for box in boxes})) or NO_BOXES


def label_sets_of(table: pa.Table) -> Iterator[tuple[str, ...]]:
    """The classes of each row of a manifest, each once."""
    detects = "boxes" in table.column_names
    column = table["boxes" if detects else "label"]
    for start in range(0, len(table), AT_ONCE):
        for truth in column[start : start + AT_ONCE].to_pylist():
            yield classes_of(truth) if detects else (truth,)


def numbers_of(
    sets: Iterator[tuple[str, ...]], count: int, known: dict[tuple[str, ...], int]
) -> NDArray[np.int32]:
    """The number of each of so many sets in `known`, which gets those that it lacks, int32 (N,)."""
    return np.fromiter((known.setdefault(one, len(known)) for one in sets), np.int32, count)


@dataclass(frozen=True, slots=True)
class Upload:
    """An image to be written."""

    path: str
    sha256: str
    size: int
    image: SourceImage = field(repr=False)

    def read(self) -> bytes:
        """Its bytes. Raises `SourceChanged` when they are not those that were audited."""
        return unchanged(self.image, self.sha256)


class Uploads(MadeInPortions[Upload]):
    """The images of a batch, each made into an `Upload` when it is asked for.

    `rows` says in which row of the annotations each image is, int64 (N,).
    """

    def __init__(self, images: Images, annotations: pa.Table, rows: NDArray[np.int64]) -> None:
        self._images, self._annotations, self.rows = images, annotations, rows

    def __len__(self) -> int:
        return len(self.rows)

    def portion(self, start: int, stop: int) -> list[Upload]:
        rows = self._annotations.select(["path", "sha256", "size"]).take(pa.array(self.rows[start:stop]))
        columns = (column.to_pylist() for column in rows.columns)
        return [
            Upload(path, sha256, size, image)
            for image, path, sha256, size in zip(self._images.portion(start, stop), *columns, strict=True)
        ]

    def paths(self) -> Iterator[str]:
        """The paths of all, sorted: row by row."""
        column = self._annotations["path"]
        for start in range(0, len(column), AT_ONCE):
            yield from column[start : start + AT_ONCE].to_pylist()
