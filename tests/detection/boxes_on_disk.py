"""The same pictures with boxes, as COCO, YOLO and Pascal VOC have them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.detection.detection_world import CLASSES, pictures
from visionops.demo.parts import Picture


def rectangles(count: int, seed: int = 0, classes: Sequence[str] = CLASSES) -> list[Picture]:
    """The pictures of `detection_world`, their two kinds called as said: twice the same name is one class."""
    source, targets = pictures(count, seed)
    drawn = []
    for pixels, target in zip(source.pixels, targets, strict=True):
        kept = target[target[:, 4] >= 0].tolist()
        boxes = [(left, top, width, height) for left, top, width, height, _ in kept]
        drawn.append(Picture(pixels[..., 0], boxes, [classes[int(kind)] for *_, kind in kept]))
    return drawn


def write_coco(folder: Path, drawn: Sequence[Picture]) -> Path:
    names = _write_images(folder / "images", drawn)
    classes = _classes(drawn)
    annotations = [
        {"image_id": number, "category_id": classes.index(label), "bbox": list(box)}
        for number, picture in enumerate(drawn)
        for box, label in zip(picture.boxes, picture.labels, strict=True)
    ]
    content = {
        "images": [{"id": number, "file_name": f"images/{name}"} for number, name in enumerate(names)],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes)],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def write_yolo(folder: Path, drawn: Sequence[Picture]) -> Path:
    names = _write_images(folder / "images", drawn)
    classes = _classes(drawn)
    (folder / "classes.txt").write_text("\n".join(classes))
    (folder / "labels").mkdir()
    for name, picture in zip(names, drawn, strict=True):
        height, width = picture.pixels.shape
        lines = [
            f"{classes.index(label)} "
            f"{(x + w / 2) / width:.9f} {(y + h / 2) / height:.9f} {w / width:.9f} {h / height:.9f}"
            for (x, y, w, h), label in zip(picture.boxes, picture.labels, strict=True)
        ]
        (folder / "labels" / Path(name).with_suffix(".txt")).write_text("\n".join(lines))
    return folder


def write_voc(folder: Path, drawn: Sequence[Picture]) -> Path:
    names = _write_images(folder / "JPEGImages", drawn)
    (folder / "Annotations").mkdir()
    for name, picture in zip(names, drawn, strict=True):
        height, width = picture.pixels.shape
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x + 1:g}</xmin><ymin>{y + 1:g}</ymin>"
            f"<xmax>{x + w:g}</xmax><ymax>{y + h:g}</ymax></bndbox></object>"
            for (x, y, w, h), label in zip(picture.boxes, picture.labels, strict=True)
        )
        (folder / "Annotations" / Path(name).with_suffix(".xml")).write_text(
            f"<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height></size>"
            f"{objects}</annotation>"
        )
    return folder


WRITERS: dict[str, Callable[[Path, Sequence[Picture]], Path]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
}


def _classes(drawn: Sequence[Picture]) -> list[str]:
    return sorted({label for picture in drawn for label in picture.labels})


def _write_images(folder: Path, drawn: Sequence[Picture]) -> list[str]:
    folder.mkdir(parents=True)
    for number, picture in enumerate(drawn):
        Image.fromarray(np.asarray(picture.pixels)).save(folder / f"{number:04}.png")
    return [f"{number:04}.png" for number in range(len(drawn))]
