"""The images of a source as columns: some tens of bytes an image, where objects would take a thousand; gathered one
by one or several columns at a time.
"""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.common.arrow_columns import AT_ONCE, MadeInPortions, TextColumn, decoded, in_order
from visionops_assets.common.findings import findings_table
from visionops_assets.dataset.dataset_task import OwnTruth, Truth, own_truth, truth_of
from visionops_assets.dataset.importing.file_listing import Names, ascending
from visionops_assets.dataset.importing.image_source import Box, SourceImage, Sums
from visionops_assets.dataset.versions.annotations import COLUMNS, SPLITS

NOTHING: Mapping[str, object] = MappingProxyType({})
NO_SPLIT = -1
# The frame of boxes that are shares of their image.
SHARES = (-1, -1)
# As precise as the formats say it; the annotations round.
_BOXES = pa.list_(
    pa.struct([*((side, pa.float64()) for side in ("x", "y", "w", "h")), ("label", pa.string())])
)
_TIME = COLUMNS["captured_at"]


@dataclass(frozen=True)
class Images(MadeInPortions[SourceImage]):
    """Images as Arrow columns, made into a `SourceImage` one at a time; a column that no image has is None.

    `open` gives an image's bytes by its name. Texts are bytes (`arrow_columns.TextColumn`), `split` numbers of
    `annotations.SPLITS` or -1, int8 (N,). `extra` may lack images, by its null values in `told` (None: has all).
    `frame` is the width and height that boxes refer to as their source says it, int32 (N, 2): 0 says nothing, and
    `SHARES` that boxes are shares of the image; None once `box_coordinates.settled` has brought them to pixels.
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
        """Which images have a label, boxes or what another task learns from, bool (N,)."""
        known = np.zeros(len(self), bool)
        for column in (self.label, self.boxes, None if self.own is None else self.extra[self.own.column][0]):
            if column is not None:
                known |= column.is_valid().to_numpy(zero_copy_only=False)
        return known

    @property
    def detects(self) -> bool:
        """Whether any of them has boxes."""
        return self.boxes is not None and self.boxes.null_count < len(self)

    @property
    def own(self) -> OwnTruth | None:
        """What another task learns from, where that is among the columns of the source's own and is all there is."""
        return own_truth(self.extra) if self.label is None and self.boxes is None else None

    def truths(self) -> tuple[Truth, pa.Array | None]:
        """What they are labelled with, and its column; None where no image has one."""
        if self.own is not None:
            return Truth(*self.own), self.extra[self.own.column][0]
        return truth_of(
            ("boxes",) if self.detects else ("label",)
        ), self.boxes if self.detects else self.label

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
                _text_at(label),
                boxes,
                None if split == NO_SPLIT else SPLITS[split],
                _text_at(group),
                captured_at,
                _text_at(source),
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


def _text_at(value: bytes | None) -> str | None:
    return None if value is None else decoded(value)


class ImageRecord(NamedTuple):
    """What a source says of one image; None where it does not say."""

    label: str | None = None
    boxes: Sequence[Box] | None = None
    split: str | None = None
    group: str | None = None
    captured_at: datetime | None = None
    source: str | None = None
    extra: Mapping[str, object] = NOTHING
    frame: tuple[int, int] = (0, 0)


SAYS_NOTHING = ImageRecord()


class Gathering:
    """Takes images one by one and keeps them as columns."""

    def __init__(self, open_: Callable[[str], bytes]) -> None:
        self._open = open_
        self._names = TextColumn()
        self._splits = bytearray()
        self._texts = {name: TextColumn() for name in ("label", "group", "source")}
        self._frames, self._framed = array("i"), False
        self._parts: list[_Rest] = []
        self._some: list[tuple[Sequence[Box] | None, datetime | None, Mapping[str, object]]] = []

    def add(self, name: str, record: ImageRecord) -> None:
        """One more image."""
        label, boxes, split, group, captured_at, source, extra, frame = record
        self._frames.extend(frame)
        self._framed = self._framed or frame != (0, 0)
        self._names.add(name)
        self._splits.append(255 if split is None else SPLITS.index(split))
        for column, text in (("label", label), ("group", group), ("source", source)):
            self._texts[column].add(text)
        self._some.append((boxes, captured_at, extra))
        if len(self._some) == AT_ONCE:
            self._keep()

    def images(self) -> Images:
        """All of them, in the order in which they came. Takes no more after that."""
        self._keep()
        rest = _joined_columns(self._parts)
        texts = {name: column.array_if_any() for name, column in self._texts.items()}
        return Images(
            self._open,
            self._names.array(),
            np.frombuffer(self._splits, np.int8),
            texts["label"],
            rest.boxes,
            texts["group"],
            rest.captured_at,
            texts["source"],
            rest.extra,
            np.frombuffer(self._frames, np.int32).reshape(-1, 2) if self._framed else None,
        )

    def _keep(self) -> None:
        boxes, times, extras = zip(*self._some, strict=True) if self._some else [()] * 3
        keys = sorted({key for extra in extras for key in extra})
        self._parts.append(
            _Rest(
                len(self._some),
                pa.array(boxes, _BOXES) if any(one is not None for one in boxes) else None,
                pa.array(times, _TIME) if any(one is not None for one in times) else None,
                {
                    key: (
                        _own_column([extra.get(key) for extra in extras]),
                        np.array([key in extra for extra in extras], bool),
                    )
                    for key in keys
                },
            )
        )
        self._some = []


def joined_images(open_: Callable[[str], bytes], parts: Sequence[Images]) -> Images:
    """Several columns of images as one, which `open_` opens."""
    rest = _joined_columns([_Rest(len(part), part.boxes, part.captured_at, part.extra) for part in parts])
    count = [len(part) for part in parts]
    return Images(
        open_,
        pa.concat_arrays([part.name for part in parts]),
        np.concatenate([part.split for part in parts]),
        _concatenated([part.label for part in parts], count),
        rest.boxes,
        _concatenated([part.group for part in parts], count),
        rest.captured_at,
        _concatenated([part.source for part in parts], count),
        rest.extra,
        _frames_of(parts),
    )


def _frames_of(parts: Sequence[Images]) -> NDArray[np.int32] | None:
    if all(part.frame is None for part in parts):
        return None
    return np.concatenate(
        [np.zeros((len(part), 2), np.int32) if part.frame is None else part.frame for part in parts]
    )


class _Rest(NamedTuple):
    """The columns that few formats have, of some images."""

    number: int
    boxes: pa.Array | None
    captured_at: pa.Array | None
    extra: Mapping[str, tuple[pa.Array, NDArray[np.bool_]]]


def _joined_columns(parts: Sequence[_Rest]) -> _Rest:
    count = [part.number for part in parts]
    extra = {}
    for key in sorted({key for part in parts for key in part.extra}):
        there = [part.extra.get(key, (None, np.zeros(part.number, bool))) for part in parts]
        values = _concatenated([values for values, _ in there], count)
        assert values is not None
        extra[key] = (values, np.concatenate([told for _, told in there]))
    boxes = _concatenated([part.boxes for part in parts], count)
    return _Rest(sum(count), boxes, _concatenated([part.captured_at for part in parts], count), extra)


def _concatenated(columns: Sequence[pa.Array | None], count: Sequence[int]) -> pa.Array | None:
    kinds = [column.type for column in columns if column is not None]
    if not kinds:
        return None
    kind = _common_type(kinds)
    return pa.concat_arrays(
        [
            pa.nulls(number, kind) if column is None else column.cast(kind)
            for column, number in zip(columns, count, strict=True)
        ]
    )


def _own_column(values: Sequence[object]) -> pa.Array:
    """A column of one's own; as text where its values are of several kinds, a serial number among counts."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else _as_text(value) for value in values])


def _as_text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode(errors="replace").decode()


def _common_type(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """The type that Arrow would find for values of all of these."""
    schemas = [pa.schema([("values", kind)]) for kind in kinds]
    if len({pa.types.is_string(kind) for kind in kinds if not pa.types.is_null(kind)}) > 1:
        return pa.string()
    return pa.unify_schemas(schemas, promote_options="permissive").field("values").type
