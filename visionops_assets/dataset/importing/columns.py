"""The images of a source as columns: some tens of bytes an image, where objects would take a thousand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.common.findings import findings_table
from visionops_assets.dataset.importing.compact_columns import MadeInPortions, decoded, in_order
from visionops_assets.dataset.importing.file_listing import Names, ascending
from visionops_assets.dataset.importing.source import SourceImage
from visionops_assets.dataset.importing.sums import Sums
from visionops_assets.dataset.versions.annotations import SPLITS

NOTHING: Mapping[str, object] = MappingProxyType({})
NO_SPLIT = -1
# The frame of boxes that are shares of their image.
SHARES = (-1, -1)


@dataclass(frozen=True)
class Images(MadeInPortions[SourceImage]):
    """Images as Arrow columns, made into a `SourceImage` one at a time; a column that no image has is None.

    `open` gives an image's bytes by its name. Texts are bytes (`compact_columns.TextColumn`), `split` numbers of
    `annotations.SPLITS` or -1, int8 (N,). `extra` may lack images, by its null values in `told` (None: has all).
    `frame` is the width and height that boxes refer to as their source says it, int32 (N, 2): 0 says nothing, and
    `SHARES` that boxes are shares of the image; None once `frames.settled` has brought them to pixels.
    """

    open: Callable[[str], bytes] = field(repr=False)
    name: pa.Array
    split: NDArray[np.int8]
    label: pa.Array | None = None
    boxes: pa.Array | None = None
    group: pa.Array | None = None
    captured_at: pa.Array | None = None
    source: pa.Array | None = None
    extra: Mapping[str, tuple[pa.Array, NDArray[np.bool_]]] = field(default_factory=dict)
    frame: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.name)

    def portion(self, start: int, stop: int) -> list[SourceImage]:
        chosen = slice(start, stop)
        return list(self._each(lambda column: column[chosen], chosen)._made())

    @property
    def names(self) -> Names:
        """The names alone."""
        return Names(self.name)

    @property
    def annotated(self) -> NDArray[np.bool_]:
        """Which images have a label or boxes, bool (N,)."""
        known = np.zeros(len(self), bool)
        for column in (self.label, self.boxes):
            if column is not None:
                known |= column.is_valid().to_numpy(zero_copy_only=False)
        return known

    @property
    def detects(self) -> bool:
        """Whether any of them has boxes."""
        return self.boxes is not None and self.boxes.null_count < len(self)

    def take(self, positions: NDArray[np.int64]) -> "Images":
        """The images at these positions, in this order."""
        if len(positions) == len(self) and ascending(positions):
            return self
        places = pa.array(positions)
        return self._each(lambda column: column.take(places), positions)

    def _each(self, of: Callable[[pa.Array], pa.Array], chosen: NDArray[np.int64] | slice) -> "Images":
        label, boxes, group, captured_at, source = (
            None if column is None else of(column)
            for column in (self.label, self.boxes, self.group, self.captured_at, self.source)
        )
        extra = {key: (of(values), told[chosen]) for key, (values, told) in self.extra.items()}
        frame = None if self.frame is None else self.frame[chosen]
        return Images(
            self.open,
            of(self.name),
            self.split[chosen],
            label,
            boxes,
            group,
            captured_at,
            source,
            extra,
            frame,
        )

    def by_name(self) -> "Images":
        """The same images sorted by name."""
        return self.take(in_order(self.name))

    def with_splits(self, splits: Mapping[str, str]) -> "Images":
        """With some splits called otherwise."""
        changed = self.split.copy()
        for before, after in splits.items():
            changed[self.split == SPLITS.index(before)] = SPLITS.index(after)
        return replace(self, split=changed)

    def splits(self) -> set[str | None]:
        """The splits that images come with."""
        return {None if code == NO_SPLIT else SPLITS[code] for code in np.unique(self.split)}

    def _made(self) -> Iterator[SourceImage]:
        values = [
            [None] * len(self) if column is None else column.to_pylist()
            for column in (self.label, self.boxes, self.group, self.captured_at, self.source)
        ]
        extra = {key: (column.to_pylist(), told) for key, (column, told) in self.extra.items()}
        for row, (name, split, label, boxes, group, captured_at, source) in enumerate(
            zip(self.name.to_pylist(), self.split.tolist(), *values, strict=True)
        ):
            called = decoded(name)
            yield SourceImage(
                called,
                partial(self.open, called),
                _text(label),
                boxes,
                None if split == NO_SPLIT else SPLITS[split],
                _text(group),
                captured_at,
                _text(source),
                {key: column[row] for key, (column, told) in extra.items() if told[row]} or NOTHING,
            )


class Recognised(NamedTuple):
    """The format that a source is read in, why, and which others fit, each with its reason."""

    format: str
    reason: str
    others: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Source:
    """All images of a source that have annotations, sorted by name, and what was odd about the rest."""

    format: str
    images: Images
    findings: pd.DataFrame = field(default_factory=lambda: findings_table([]))
    # What must live for as long as images may be read.
    keeps: object = None
    sums: Sums = field(default_factory=lambda: Sums(0, 0, 0))
    recognised: Recognised = field(default_factory=lambda: Recognised("", "", ()))
    none_labelled: str | None = None
    # Files that could have been read, and why they were not.
    not_read: Mapping[str, str] = field(default_factory=dict)
    # Images of which nothing is said, and that count as such without objects though nobody said so.
    supposed: int = 0
    # Whether anything is a link, or no file, so that the whole cannot stay where it lies.
    linked: bool = False


def _text(value: bytes | None) -> str | None:
    return None if value is None else decoded(value)
