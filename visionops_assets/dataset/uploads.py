"""What is uploaded of a batch."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.dataset.importing.columns import Images
from visionops_assets.dataset.importing.portions import AT_ONCE, MadeInPortions
from visionops_assets.dataset.importing.source import SourceImage, unchanged


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
