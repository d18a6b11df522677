"""YOLO (Ultralytics): `images/…` with `labels/….txt` beside them, classes in `data.yaml` or `classes.txt`.

A line is `class x y w h`: the centre and size of a box, as shares of the image; or `class x1 y1 x2 y2 x3 y3 …`,
a polygon, of which the box around it is kept. An image without a label file shows no object.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from visionops_assets.dataset.findings import Finding, findings_table
from visionops_assets.dataset.formats.source import (
    Box,
    FileBytes,
    Source,
    SourceError,
    SourceImage,
    image_files,
    split_in_name,
)
from visionops_assets.dataset.image_header import UnreadableImage, probe

NAME = "yolo"


def recognises(folder: Path) -> bool:
    """Whether there are class names and label files."""
    return folder.is_dir() and _names_file(folder) is not None and any(folder.rglob("labels/**/*.txt"))


def read(folder: Path) -> Source:
    """Every image with its boxes. Raises `SourceError` naming file and line that cannot be read."""
    names_file = _names_file(folder)
    if names_file is None:
        raise SourceError(f"{folder}: has neither a data.yaml with names nor a classes.txt")
    names = _names(names_file)
    files, findings = image_files(folder)
    images, seen = [], set()
    for path in files:
        relative = path.relative_to(folder)
        label_file = _label_file(folder, relative)
        seen.add(label_file)
        if not label_file.is_file():
            why = "it is taken for an image without objects"
            findings.append(Finding("annotated", relative.as_posix(), "has no label file", why, "WARN"))
        boxes = _boxes(label_file, path, names) if label_file.is_file() else []
        split = split_in_name(relative.parent.as_posix())
        images.append(SourceImage(relative.as_posix(), FileBytes(str(path)), boxes=boxes, split=split))
    for label_file in sorted(folder.rglob("labels/**/*.txt")):
        if label_file not in seen:
            name = label_file.relative_to(folder).as_posix()
            findings.append(
                Finding("complete", name, "is about an image that is not there", "add it, or remove the file")
            )
    return Source(NAME, images, findings_table(findings))


def _names_file(folder: Path) -> Path | None:
    candidates = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))]
    for path in candidates:
        if "names" in path.read_text(errors="replace"):
            return path
    return next((path for path in sorted(folder.rglob("classes.txt")) if path.is_file()), None)


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


def _label_file(folder: Path, relative: Path) -> Path:
    """`…/images/…/x.jpg` has its labels in `…/labels/…/x.txt`, the last `images` counting."""
    parts = list(relative.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return (folder / Path(*parts)).with_suffix(".txt")


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
