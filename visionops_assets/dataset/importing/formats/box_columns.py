"""Columns of a table that hold boxes, by their names: which four numbers they are, and of what."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visionops_assets.dataset.importing.formats.json_and_xml import parsed_json
from visionops_assets.dataset.importing.formats.table_rows import absent
from visionops_assets.dataset.importing.image_source import Box, SourceError

# By the order of the numbers, the names of their columns, without spaces, `_`, `-`, and what stands for boxes.
_ORDERS: tuple[tuple[str, tuple[str, str, str, str]], ...] = (
    *(("xyxy", names) for names in (
        ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("x0", "y0", "x1", "y1"),
        ("left", "top", "right", "bottom"), ("xtl", "ytl", "xbr", "ybr"), ("minx", "miny", "maxx", "maxy"),
    )),
    *(("cxcywh", names) for names in (
        ("cx", "cy", "w", "h"), ("cx", "cy", "width", "height"), ("xcenter", "ycenter", "width", "height"),
        ("xcenter", "ycenter", "w", "h"), ("centerx", "centery", "width", "height"), ("xc", "yc", "w", "h"),
        ("centerx", "centery", "w", "h"), ("xcentre", "ycentre", "width", "height"),
    )),
    *(("xywh", names) for names in (
        ("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"),
        ("xmin", "ymin", "width", "height"), ("xmin", "ymin", "w", "h"), ("left", "top", "w", "h"),
    )),
)  # fmt: skip
_OF_BOXES = re.compile(r"^(?:bbox|box|boundingbox)(?=.)")
_SHARE = re.compile(r"norm(?:alized|alised)?|^rel(?:ative)?|rel(?:ative)?$")
_LISTS = ("bbox", "box", "boxes", "bboxes", "boundingbox")
_SIZES = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("width", "height"), ("imgw", "imgh"))
_NO_ODD = object()
_LETTERS = {
    "xywh": "left, top, width, height",
    "xyxy": "left, top, right, bottom",
    "cxcywh": "centre, width, height",
}


class OrderUnknown(SourceError):
    """Nothing says which numbers a box is made of."""


@dataclass(frozen=True)
class BoxColumns:
    """`columns` of the four numbers, or one of lists of them; `order` is None where nothing says it. `shares` says that
    they are shares of the image. `size` are the columns of its width and height."""

    columns: tuple[str, ...]
    order: str | None
    shares: bool
    size: tuple[str, str] | None


def box_columns(columns: Sequence[str], stated: str | None) -> BoxColumns | None:
    """The columns that hold boxes, if any do."""
    plain = {_plain(column): column for column in reversed(columns)}
    shares = any(_SHARE.search(name) and _SHARE.sub("", name) != name for name in plain)
    bare = {_OF_BOXES.sub("", _SHARE.sub("", name)): column for name, column in plain.items()}
    for order, names in _ORDERS:
        if all(name in bare for name in names):
            taken = tuple(bare[name] for name in names)
            return BoxColumns(taken, stated or order, shares, _size(plain, taken))
    for name in _LISTS:
        if name in plain:
            return BoxColumns((plain[name],), stated, False, _size(plain, (plain[name],)))
    named = next((column for name, column in plain.items() if name.startswith(("bbox", "boxes"))), None)
    if named is not None:
        ending = next((order for order in ("cxcywh", "xywh", "xyxy") if _plain(named).endswith(order)), None)
        return BoxColumns((named,), stated or ending, False, _size(plain, (named,)))
    return None


def box_of(values: Sequence[float], label: str, order: str) -> Box:
    """Left, top, width and height of four numbers in their order."""
    a, b, c, d = values
    if order == "xyxy":
        return {"x": a, "y": b, "w": c - a, "h": d - b, "label": label}
    if order == "cxcywh":
        return {"x": a - c / 2, "y": b - d / 2, "w": c, "h": d, "label": label}
    return {"x": a, "y": b, "w": c, "h": d, "label": label}


def four_numbers(value: Any, where: str) -> list[float]:
    """Four numbers, also written as text. Raises `SourceError`."""
    try:
        listed = (
            parsed_json(value.replace("(", "[").replace(")", "]"), where) if isinstance(value, str) else value
        )
        numbers = [float(number) for number in listed]
    except SourceError:
        raise
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 4:
        raise SourceError(f"{where}: {str(value)[:60]!r} is no box of four numbers")
    return numbers


def objects_of(value: Any, where: str) -> tuple[list[Any], list[Any]]:
    """Boxes and classes of objects, as lists of each or as a list of objects. Raises `SourceError`."""
    by_key = _by_key(value)
    boxes = next((by_key[key] for key in ("bbox", "bboxes", "boxes") if key in by_key), None)
    named_by = ("categories", "category", "labels", "label", "classes")
    classes = next((by_key[key] for key in named_by if key in by_key), None)
    if not isinstance(boxes, list) or not isinstance(classes, list) or len(boxes) != len(classes):
        shown = ", ".join(by_key) if by_key else repr(value)[:60]
        raise SourceError(f"{where}: expected objects with as many `bbox` as `categories`, found {shown}")
    odd = next((one for one in classes if absent(one) or isinstance(one, (list, dict))), _NO_ODD)
    if odd is not _NO_ODD:
        raise SourceError(f"{where}: an object has the class {str(odd)[:60]!r}; give each a name or number")
    return boxes, classes


def _by_key(value: Any) -> dict[str, Any]:
    """Objects as lists by what they say of each; nothing where it is neither that nor a list of objects."""
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return {key: [one.get(key) for one in value] for key in value[0]}
    return value if isinstance(value, dict) else {}


def own_box(box: Any, where: str) -> Box:
    """A box as annotations of ours keep it. Raises `SourceError`."""
    try:
        return {**{side: float(box[side]) for side in "xywh"}, "label": str(box["label"])}  # type: ignore[typeddict-item]
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: expected boxes with x, y, w, h and label") from error


def ask_for_order(where: str, column: str) -> OrderUnknown:
    """That nothing says which numbers a box is made of."""
    ways = "; ".join(f"--boxes {order} ({meaning})" for order, meaning in _LETTERS.items())
    return OrderUnknown(
        f"{where}: nothing says in which order the four numbers of {column!r} are, and more than one fits; say it: "
        f"{ways}"
    )


def _plain(column: str) -> str:
    return re.sub(r"[\s_.\-]", "", column).lower()


def _size(plain: dict[str, str], taken: Sequence[str]) -> tuple[str, str] | None:
    for width, height in _SIZES:
        if width in plain and height in plain and not {plain[width], plain[height]} & set(taken):
            return plain[width], plain[height]
    return None
