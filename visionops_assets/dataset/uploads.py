"""What is uploaded of a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.dataset.formats.columns import Images
from visionops_assets.dataset.formats.source import SourceImage, unchanged

_AT_ONCE = 512


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


class Uploads(Sequence[Upload]):
    """The images of a batch, each made into an `Upload` when it is asked for.

    `rows` says in which row of the annotations each image is, int64 (N,).
    """

    def __init__(self, images: Images, annotations: pa.Table, rows: NDArray[np.int64]) -> None:
        self._images, self._annotations, self.rows = images, annotations, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, key: int) -> Upload: ...
    @overload
    def __getitem__(self, key: slice) -> list[Upload]: ...
    def __getitem__(self, key: int | slice) -> Upload | list[Upload]:
        if isinstance(key, slice):
            return list(self._made(self._images[key], self.rows[key]))
        return next(self._made([self._images[key]], self.rows[[key]]))

    def __iter__(self) -> Iterator[Upload]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self[start : start + _AT_ONCE]

    def paths(self) -> Iterator[str]:
        """The paths of all, sorted: row by row."""
        column = self._annotations["path"]
        for start in range(0, len(column), _AT_ONCE):
            yield from column[start : start + _AT_ONCE].to_pylist()

    def _made(self, images: Sequence[SourceImage], rows: NDArray[np.int64]) -> Iterator[Upload]:
        told = self._annotations.select(["path", "sha256", "size"]).take(pa.array(rows))
        for image, path, sha256, size in zip(
            images, *(column.to_pylist() for column in told.columns), strict=True
        ):
            yield Upload(path, sha256, size, image)
