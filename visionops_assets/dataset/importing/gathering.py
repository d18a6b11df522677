"""Gathering the images of a source into columns, one by one or several columns at a time."""

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.dataset.importing.columns import NOTHING, Images
from visionops_assets.dataset.importing.compact_columns import AT_ONCE, TextColumn
from visionops_assets.dataset.importing.source import Box
from visionops_assets.dataset.versions.annotations import COLUMNS, SPLITS

# As precise as the formats say it; the annotations round.
_BOXES = pa.list_(
    pa.struct([*((side, pa.float64()) for side in ("x", "y", "w", "h")), ("label", pa.string())])
)
_TIME = COLUMNS["captured_at"]


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

    def add(
        self,
        name: str,
        label: str | None = None,
        boxes: Sequence[Box] | None = None,
        split: str | None = None,
        group: str | None = None,
        captured_at: datetime | None = None,
        source: str | None = None,
        extra: Mapping[str, object] = NOTHING,
        frame: tuple[int, int] = (0, 0),
    ) -> None:
        """One more image."""
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
        rest = _joined(self._parts)
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
                        _values([extra.get(key) for extra in extras]),
                        np.array([key in extra for extra in extras], bool),
                    )
                    for key in keys
                },
            )
        )
        self._some = []


def joined(open_: Callable[[str], bytes], parts: Sequence[Images]) -> Images:
    """Several columns of images as one, which `open_` opens."""
    rest = _joined([_Rest(len(part), part.boxes, part.captured_at, part.extra) for part in parts])
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


def _joined(parts: Sequence[_Rest]) -> _Rest:
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
    kind = _common(kinds)
    return pa.concat_arrays(
        [
            pa.nulls(number, kind) if column is None else column.cast(kind)
            for column, number in zip(columns, count, strict=True)
        ]
    )


def _values(values: Sequence[object]) -> pa.Array:
    """A column of one's own; as text where its values are of several kinds, a serial number among counts."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else _text(value) for value in values])


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode(errors="replace").decode()


def _common(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """The type that Arrow would find for values of all of these."""
    schemas = [pa.schema([("values", kind)]) for kind in kinds]
    if len({pa.types.is_string(kind) for kind in kinds if not pa.types.is_null(kind)}) > 1:
        return pa.string()
    return pa.unify_schemas(schemas, promote_options="permissive").field("values").type
