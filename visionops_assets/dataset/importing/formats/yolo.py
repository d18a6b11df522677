"""YOLO (Ultralytics, darknet, CVAT, labelImg): a text file for each image with a line for each object.

Labels lie in `labels/…` for the images in `images/…`, or beside them; classes in `data.yaml`, `obj.names` or
`classes.txt`. A line is `class x y w h`: the centre and size of a box, as shares of the image; with `kpt_shape` key
points follow; or `class x1 y1 x2 y2 x3 y3 …`, a polygon, of which the box around it is kept. An image without a label
file shows no object. Splits are folders and lists of `data.yaml`, the lists of `obj.data`, or names of folders.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.file_listing import Listing
from visionops_assets.dataset.importing.formats.folders import is_document
from visionops_assets.dataset.importing.formats.yolo_settings import Splits, lists_of, read_yaml
from visionops_assets.dataset.importing.image_columns import SHARES, ImageRecord
from visionops_assets.dataset.importing.image_source import Box, SourceError, quoted
from visionops_assets.dataset.importing.plain_text import is_number, read_text, whole
from visionops_assets.dataset.importing.source_files import SourceFile, source_limits
from visionops_assets.dataset.importing.split_names import path_stem
from visionops_assets.dataset.importing.statements import Said, Stated

NAME = "yolo"

_NAMES = re.compile(rb"""^\W*names\W*:""", re.MULTILINE)


def recognises(listing: Listing) -> str | None:
    """Whether there are class names and label files."""
    names = _names_files(listing)
    if not names:
        return None
    labels = _label_files(listing, frozenset(names))
    return f"{names[0]} names classes, {labels[0]} is a label file" if labels else None


def read(listing: Listing, stated: Stated) -> Said:
    """Every label file with its boxes. Raises `SourceError` naming file and line that cannot be read."""
    found = _names_files(listing)
    if not found:
        raise SourceError(
            f"{listing.root}: has neither a data.yaml with names nor an obj.names or classes.txt"
        )
    said = Said(
        bare=True,
        one_each=True,
        kept_by="file",
        unlabelled="background",
        why_unlabelled="has no label file",
        among_data=_among_images,
    )
    classes = _classes(listing, found, stated, said)
    splits = lists_of(listing, classes.settings, classes.file, stated)
    known = frozenset({*found, *splits.read})
    said.read |= known
    for name in _label_files(listing, known):
        said.read.add(name)
        own = path_stem(name.rpartition("/")[2])
        try:
            boxes = _boxes(listing.file(name), classes, stated)
        except SourceError as error:
            if not stated.leave_out_errors:
                raise
            said.refuse(own, name, -1, error)
        else:
            said.add(own, name, record=ImageRecord(boxes=boxes, frame=SHARES))
    _take(splits, said)
    return said


def _take(splits: Splits, said: Said) -> None:
    said.listed, said.folders, said.by_lot = splits.listed, splits.folders, splits.by_lot
    said.findings += splits.findings


def _among_images(name: str) -> bool:
    """Whether an image lies where YOLO keeps them."""
    return any(part.lower() == "images" for part in name.split("/")[:-1])


def _names_files(listing: Listing) -> list[str]:
    """The files that name classes, the one to be read first."""
    yamls = [
        name
        for name in listing.ending(".yaml", ".yml")
        if _NAMES.search(listing.file(name).head(source_limits().settings).replace(b"\0", b""))
    ]
    darknet = listing.ending(".names", "_darknet.labels")
    plain = [name for name in listing.ending(".txt") if name.rpartition("/")[2].lower() == "classes.txt"]
    return [*yamls, *darknet, *plain]


def _label_files(listing: Listing, known: frozenset[str]) -> list[str]:
    """The text files in folders of labels, and those that lie beside an image of their name."""
    texts = [name for name in listing.ending(".txt") if name not in known and not is_document(name)]
    labels = [name for name in texts if any(part.lower() == "labels" for part in name.split("/")[:-1])]
    if len(labels) == len(texts):
        return labels
    beside = {path_stem(name) for name in listing.images}
    inside = set(labels)
    return [name for name in texts if name in inside or path_stem(name) in beside]


@dataclass(frozen=True)
class _Classes:
    file: str
    names: dict[int, str]
    # Numbers after the class that are a box with key points; None where there are none.
    with_points: int | None
    settings: dict[str, Any]


def _classes(listing: Listing, found: Sequence[str], stated: Stated, said: Said) -> _Classes:
    settings: dict[str, Any] = {}
    named: dict[str, dict[int, str]] = {}
    for name in found:
        path = listing.file(name)
        if name.lower().endswith((".yaml", ".yml")):
            content = read_yaml(path, stated.encoding)
            settings = settings or content
            named[name] = _of_yaml(content, path)
        else:
            named[name] = _of_lines(path, name, stated, said)
    first = found[0]
    for other in found[1:]:
        if named[other] != named[first]:
            raise SourceError(
                f"{listing.root}: {first} names the classes {_few(named[first])}, {other} names {_few(named[other])}; "
                "keep the one that is right"
            )
    return _Classes(first, named[first], _points(settings, listing.file(first)), settings)


def _of_lines(path: SourceFile, name: str, stated: Stated, said: Said) -> dict[int, str]:
    lines = [line.strip() for line in read_text(path, stated.encoding).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    blank = [number for number, line in enumerate(lines, start=1) if not line]
    if blank:
        what = f"has a blank line {', '.join(map(str, blank[:5]))}"
        why = "it keeps its number, so that the classes after it have theirs"
        said.findings.append(Finding("labels known", name, what, why, "WARN"))
    return {number: line for number, line in enumerate(lines) if line}


def _of_yaml(content: dict[str, Any], path: SourceFile) -> dict[int, str]:
    names, found = content.get("names"), dict[int, str]()
    if isinstance(names, list):
        found = {number: str(name) for number, name in enumerate(names) if name is not None}
    elif isinstance(names, dict):
        numbers = {whole(number): str(name) for number, name in names.items() if name is not None}
        found = {number: name for number, name in numbers.items() if number is not None}
        if len(found) < len(names):
            raise SourceError(f"{path}: expected `names` from numbers to classes, each number once")
    else:
        raise SourceError(
            f"{path}: expected `names`, a list of the classes, or a mapping from number to class"
        )
    count = whole(content.get("nc"))
    if count is not None and count != len(names):
        raise SourceError(
            f"{path}: says nc: {count}, but names {len(names)} classes ({_few(found)}); correct one of them"
        )
    return found


def _points(settings: dict[str, Any], path: SourceFile) -> int | None:
    shape = settings.get("kpt_shape")
    if shape is None:
        return None
    sizes = [whole(one) for one in shape] if isinstance(shape, list) else []
    if len(sizes) != 2 or None in sizes or sizes[1] not in (2, 3):
        raise SourceError(f"{path}: kpt_shape: {shape} is not [number of points, 2 or 3]")
    return 4 + (sizes[0] or 0) * (sizes[1] or 0)


def _boxes(file: SourceFile, classes: _Classes, stated: Stated) -> list[Box]:
    # With their numbers in the file, as editors count.
    lines = enumerate(read_text(file, stated.encoding).splitlines(), start=1)
    return [_box(line.split(), classes, f"{file}, line {number}") for number, line in lines if line.strip()]


def _box(fields: Sequence[str], classes: _Classes, where: str) -> Box:
    number, odd = whole(fields[0]), next((field for field in fields[1:] if not is_number(field)), None)
    if number is None or odd is not None:
        shown = fields[0] if number is None else odd or ""
        comma = "; write decimals with a point, and spaces between numbers" if "," in shown else ""
        what = "is no whole number for a class" if number is None else "is no number"
        raise SourceError(f"{where}: expected numbers, `class x y w h`, but {shown[:40]!r} {what}{comma}")
    values = [float(field) for field in fields[1:]]
    if number not in classes.names:
        raise SourceError(f"{where}: class {number} has no name; there are {_few(classes.names)}")
    if classes.with_points is not None and len(values) not in (4, classes.with_points):
        raise SourceError(
            f"{where}: has {len(values)} numbers after the class, by kpt_shape there are 4 or {classes.with_points}"
        )
    if len(values) == 4 or len(values) == classes.with_points:
        x, y, w, h = values[:4]
        left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    elif len(values) == 6 and values[5] >= 1 and fields[6].isdigit():
        raise SourceError(
            f"{where}: has 6 numbers after the class: a polygon of three points, or a box with a confidence and the "
            "number of a track; take what follows the box away, or close the polygon by its first point"
        )
    elif len(values) >= 6 and len(values) % 2 == 0:
        left, right = min(values[::2]), max(values[::2])
        top, bottom = min(values[1::2]), max(values[1::2])
    else:
        raise SourceError(
            f"{where}: has {len(values)} numbers after the class, expected 4, or the corners of a polygon"
        )
    return {"x": left, "y": top, "w": right - left, "h": bottom - top, "label": classes.names[number]}


def _few(names: dict[int, str], most: int = 12) -> str:
    shown = ", ".join(f"{number} {quoted(name, plain=True)}" for number, name in list(names.items())[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
