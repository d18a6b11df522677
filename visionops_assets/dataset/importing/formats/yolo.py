"""YOLO (Ultralytics): `images/…` with `labels/….txt` beside them, classes in `data.yaml` or `classes.txt`.

A line is `class x y w h`: the centre and size of a box, as shares of the image; or `class x1 y1 x2 y2 x3 y3 …`,
a polygon, of which the box around it is kept. An image without a label file shows no object.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from visionops_assets.dataset.findings import Finding, findings_table
from visionops_assets.dataset.image_header import UnreadableImage, probe
from visionops_assets.dataset.importing.gathering import Gathering
from visionops_assets.dataset.importing.listing import (
    Index,
    image_files,
    paths_below,
    paths_in,
    sorted_names,
    walk,
)
from visionops_assets.dataset.importing.source import Box, Folder, Source, SourceError, split_in_name

NAME = "yolo"


def recognises(folder: Path) -> bool:
    """Whether there are class names and label files."""
    return folder.is_dir() and _names_file(folder) is not None and any(_label_files(folder))


def read(folder: Path) -> Source:
    """Every image with its boxes. Raises `SourceError` naming file and line that cannot be read."""
    names_file = _names_file(folder)
    if names_file is None:
        raise SourceError(f"{folder}: has neither a data.yaml with names nor a classes.txt")
    names = _names(names_file)
    files, findings = image_files(folder)
    labels = sorted_names(_label_files(folder))
    by_name, seen = Index(labels), np.zeros(len(labels), bool)
    images = Gathering(Folder(str(folder)))
    for name in files:
        label_name = _label_name(name)
        seen[by_name.all(label_name)] = True
        label_file = folder / label_name
        if not label_file.is_file():
            why = "it is taken for an image without objects"
            findings.append(Finding("annotated", name, "has no label file", why, "WARN"))
        boxes = _boxes(label_file, folder / name, names) if label_file.is_file() else []
        images.add(name, boxes=boxes, split=split_in_name(name.rpartition("/")[0]))
    for place in np.flatnonzero(~seen).tolist():
        findings.append(
            Finding(
                "complete",
                labels[place],
                "is about an image that is not there",
                "add it, or remove the file",
            )
        )
    return Source(NAME, images.images(), findings_table(findings))


def _label_files(folder: Path) -> Iterator[str]:
    for name, _ in walk(folder, lambda name: name.endswith(".txt")):
        if "labels" in name.split("/")[:-1]:
            yield name


def _names_file(folder: Path) -> Path | None:
    for path in [*_ending(folder, ".yaml"), *_ending(folder, ".yml")]:
        if "names" in path.read_text(errors="replace"):
            return path
    return next((path for path in paths_below(folder, "classes.txt".__eq__) if path.is_file()), None)


def _ending(folder: Path, suffix: str) -> list[Path]:
    return paths_in(folder, lambda name: name.endswith(suffix))


def _names(path: Path) -> dict[int, str]:
    if path.suffix == ".txt":
        return dict(enumerate(line.strip() for line in path.read_text().splitlines() if line.strip()))
    try:
        names = (yaml.safe_load(path.read_text()) or {}).get("names")
    except (yaml.YAMLError, AttributeError) as error:
        raise SourceError(f"{path}: is not YAML with a mapping: {error}") from error
    if isinstance(names, dict):
        return {int(number): str(name) for number, name in names.items()}
    if isinstance(names, list):
        return {number: str(name) for number, name in enumerate(names)}
    raise SourceError(f"{path}: expected `names`, a list of the classes, or a mapping from number to class")


def _label_name(name: str) -> str:
    """`…/images/…/x.jpg` has its labels in `…/labels/…/x.txt`, the last `images` counting."""
    parts = name.split("/")
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return PurePosixPath(*parts).with_suffix(".txt").as_posix()


def _boxes(label_file: Path, image: Path, names: dict[int, str]) -> list[Box]:
    lines = [line.split() for line in label_file.read_text().splitlines() if line.strip()]
    if not lines:
        return []
    try:
        header = probe(image.read_bytes(), image.name)
    except UnreadableImage:
        # Told by the audit; without its size there are no boxes in pixels.
        return []
    return [
        _box(fields, header.width, header.height, names, f"{label_file}, line {number}")
        for number, fields in enumerate(lines, start=1)
    ]


def _box(fields: Sequence[str], width: int, height: int, names: dict[int, str], where: str) -> Box:
    try:
        number, values = int(fields[0]), [float(field) for field in fields[1:]]
    except ValueError as error:
        raise SourceError(f"{where}: expected numbers, `class x y w h`: {error}") from error
    if number not in names:
        raise SourceError(f"{where}: class {number} has no name; there are {', '.join(map(str, names))}")
    if len(values) == 4:
        x, y, w, h = values
        left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    elif len(values) >= 6 and len(values) % 2 == 0:
        left, right = min(values[::2]), max(values[::2])
        top, bottom = min(values[1::2]), max(values[1::2])
    else:
        raise SourceError(
            f"{where}: has {len(values)} numbers after the class, expected 4, or the corners of a polygon"
        )
    return {
        "x": left * width,
        "y": top * height,
        "w": (right - left) * width,
        "h": (bottom - top) * height,
        "label": names[number],
    }
