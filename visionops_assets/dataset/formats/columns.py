"""The images of a source as columns: some tens of bytes an image, where objects would take a thousand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionops_assets.dataset.annotations import COLUMNS, SPLITS
from visionops_assets.dataset.formats.files import AT_ONCE, Names, ascending, decoded, encoded
from visionops_assets.dataset.formats.source import Box, SourceImage

# As precise as the formats say it; the annotations round.
_BOXES = pa.list_(
    pa.struct([*((side, pa.float64()) for side in ("x", "y", "w", "h")), ("label", pa.string())])
)
_TIME = COLUMNS["captured_at"]
_NOTHING: Mapping[str, object] = MappingProxyType({})
_NO_SPLIT = -1


@dataclass(frozen=True)
class Images(Sequence[SourceImage]):
    """Images as Arrow columns, made into a `SourceImage` one at a time; a column that no image has is None.

    `open` gives an image's bytes by its name. Texts are bytes of UTF-8 (`files.encoded`), `split` numbers of
    `annotations.SPLITS` or -1, int8 (N,). `extra` may lack images, by its null values in `told` (None: has all).
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

    def __len__(self) -> int:
        return len(self.name)

    @overload
    def __getitem__(self, key: int) -> SourceImage: ...
    @overload
    def __getitem__(self, key: slice) -> list[SourceImage]: ...
    def __getitem__(self, key: int | slice) -> SourceImage | list[SourceImage]:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return list(self._part(start, max(start, stop))._made())
            return list(self.take(np.arange(start, stop, step))._made())
        place = range(len(self))[key]
        return next(self._part(place, place + 1)._made())

    def __iter__(self) -> Iterator[SourceImage]:
        for start in range(0, len(self), AT_ONCE):
            yield from self[start : start + AT_ONCE]

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

    def take(self, positions: NDArray[np.int64]) -> "Images":
        """The images at these positions, in this order."""
        if len(positions) == len(self) and ascending(positions):
            return self
        places = pa.array(positions)
        return self._each(lambda column: column.take(places), positions)

    def _part(self, start: int, stop: int) -> "Images":
        return self._each(lambda column: column.slice(start, stop - start), slice(start, stop))

    def _each(self, of: Callable[[pa.Array], pa.Array], chosen: NDArray[np.int64] | slice) -> "Images":
        label, boxes, group, captured_at, source = (
            None if column is None else of(column)
            for column in (self.label, self.boxes, self.group, self.captured_at, self.source)
        )
        extra = {key: (of(values), told[chosen]) for key, (values, told) in self.extra.items()}
        return Images(
            self.open, of(self.name), self.split[chosen], label, boxes, group, captured_at, source, extra
        )

    def by_name(self) -> "Images":
        """The same images sorted by name."""
        return self.take(pc.sort_indices(self.name).to_numpy().view(np.int64))

    def with_splits(self, splits: Mapping[str, str]) -> "Images":
        """With some splits called otherwise."""
        changed = self.split.copy()
        for before, after in splits.items():
            changed[self.split == SPLITS.index(before)] = SPLITS.index(after)
        return replace(self, split=changed)

    def splits(self) -> set[str | None]:
        """The splits that images come with."""
        return {None if code == _NO_SPLIT else SPLITS[code] for code in np.unique(self.split)}

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
                None if split == _NO_SPLIT else SPLITS[split],
                _text(group),
                captured_at,
                _text(source),
                {key: column[row] for key, (column, told) in extra.items() if told[row]} or _NOTHING,
            )


class Gathering:
    """Takes images one by one and keeps them as columns."""

    def __init__(self, open_: Callable[[str], bytes]) -> None:
        self._open = open_
        self._parts: list[Images] = []
        self._some: list[tuple[Any, ...]] = []

    def add(
        self,
        name: str,
        label: str | None = None,
        boxes: Sequence[Box] | None = None,
        split: str | None = None,
        group: str | None = None,
        captured_at: datetime | None = None,
        source: str | None = None,
        extra: Mapping[str, object] = _NOTHING,
    ) -> None:
        """One more image."""
        self._some.append((name, label, boxes, split, group, captured_at, source, extra))
        if len(self._some) == AT_ONCE:
            self._keep()

    def images(self) -> Images:
        """All of them, in the order in which they came. This empties the gathering."""
        self._keep()
        parts, self._parts = self._parts, []
        return joined(self._open, parts)

    def _keep(self) -> None:
        names, labels, boxes, splits, groups, times, sources, extras = (
            zip(*self._some, strict=True) if self._some else [()] * 8
        )
        keys = sorted({key for extra in extras for key in extra})
        self._parts.append(
            Images(
                self._open,
                encoded(names),
                np.array([_NO_SPLIT if one is None else SPLITS.index(one) for one in splits], np.int8),
                _texts(labels),
                pa.array(boxes, _BOXES) if any(one is not None for one in boxes) else None,
                _texts(groups),
                pa.array(times, _TIME) if any(one is not None for one in times) else None,
                _texts(sources),
                {
                    key: (
                        pa.array([extra.get(key) for extra in extras]),
                        np.array([key in extra for extra in extras], bool),
                    )
                    for key in keys
                },
            )
        )
        self._some = []


def joined(open_: Callable[[str], bytes], parts: Sequence[Images]) -> Images:
    """Several columns of images as one, which `open_` opens."""
    if len(parts) == 1:
        return replace(parts[0], open=open_)
    count = [len(part) for part in parts]

    def of(columns: Sequence[pa.Array | None]) -> pa.Array | None:
        kinds = [column.type for column in columns if column is not None]
        if not kinds:
            return None
        kind = _common(kinds)
        return pa.concat_arrays(
            [
                pa.nulls(number, kind) if column is None else column.cast(kind)
                for column, number in zip(columns, count, strict=True)
            ]
        )

    extra = {}
    for key in sorted({key for part in parts for key in part.extra}):
        values = of([part.extra[key][0] if key in part.extra else None for part in parts])
        told = [
            part.extra[key][1] if key in part.extra else np.zeros(number, bool)
            for part, number in zip(parts, count, strict=True)
        ]
        extra[key] = (values, np.concatenate(told))
    return Images(
        open_,
        pa.concat_arrays([part.name for part in parts]) if parts else encoded([]),
        np.concatenate([np.zeros(0, np.int8), *(part.split for part in parts)]),
        of([part.label for part in parts]),
        of([part.boxes for part in parts]),
        of([part.group for part in parts]),
        of([part.captured_at for part in parts]),
        of([part.source for part in parts]),
        extra,
    )


def _common(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """The type that Arrow would find for values of all of these."""
    schemas = [pa.schema([("values", kind)]) for kind in kinds]
    return pa.unify_schemas(schemas, promote_options="permissive").field("values").type


def _texts(texts: Sequence[str | None]) -> pa.Array | None:
    return encoded(texts) if any(text is not None for text in texts) else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else decoded(value)
