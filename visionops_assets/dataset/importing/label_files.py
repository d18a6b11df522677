"""Images and their labels as the files that labelling tools open; `importing/` reads back what they save.

What a label is here may be a person's or, as a start to be corrected, a model's. Coordinates are written with all
their digits, so a box comes back as it was (of Pascal VOC, which counts whole pixels, within one).
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import yaml

from resources.error_family import Invalid
from visionops_assets.dataset.dataset_task import dataset_task
from visionops_assets.dataset.importing.image_source import Box

_CSV_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class ImageToLabel:
    """An image of a folder: `name` is its path there, width and height in pixels as it is seen.

    `label` and `boxes` are what a tool shows as a start, `score` how sure a model is of its label; `notes` go beside
    the image into tables.
    """

    name: str
    width: int
    height: int
    label: str | None = None
    boxes: Sequence[Box] = ()
    score: float | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


Writer = Callable[[Path, Sequence[ImageToLabel], Sequence[str], str], None]


def write_label_files(
    folder: Path, images: Sequence[ImageToLabel], classes: Sequence[str], *, task: str, format_: str
) -> None:
    """Write the annotations of images that lie in a folder. Raises `ValueError` for a format that the task has not."""
    writers = label_formats(task)
    if format_ not in writers:
        raise Invalid(f"{format_} holds no labels of {task}: name one of {', '.join(writers)}")
    writers[format_](folder, images, classes, task)


def label_formats(task: str) -> Mapping[str, Writer]:
    """What labels of a task can be written as, the default first."""
    return {name: _WRITERS[name] for name in dataset_task(task).label_formats}


def _table(folder: Path, images: Sequence[ImageToLabel], classes: Sequence[str], task: str) -> None:
    write = _labels_csv if dataset_task(task).whole_images else _boxes_csv
    write(folder, images, classes, task)


def _labels_csv(folder: Path, images: Sequence[ImageToLabel], classes: Sequence[str], task: str) -> None:
    """`label` is left empty, to be filled in: a model's answer that nobody looked at must not come back as a label."""
    _write_table(
        folder / "labels.csv",
        ["path", "label", "suggestion"],
        [(image, [image.name, "", image.label or ""]) for image in images],
    )


def _boxes_csv(folder: Path, images: Sequence[ImageToLabel], classes: Sequence[str], task: str) -> None:
    """One row a box; an image without boxes has a row without corners."""
    rows: list[tuple[ImageToLabel, list[str]]] = []
    for image in images:
        if not image.boxes:
            rows.append((image, [image.name, "", "", "", "", ""]))
        for box in image.boxes:
            corners = (box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"])
            rows.append((image, [image.name, *(repr(float(side)) for side in corners), box["label"]]))
    _write_table(folder / "labels.csv", ["path", *_CSV_CORNERS, "label"], rows)


def _write_table(
    file: Path, columns: Sequence[str], rows: Sequence[tuple[ImageToLabel, Sequence[str]]]
) -> None:
    notes = list(dict.fromkeys(note for image, _ in rows for note in image.notes))
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow([*columns, *notes])
        table.writerows([*row, *(image.notes.get(note, "") for note in notes)] for image, row in rows)


def _coco(folder: Path, images: Sequence[ImageToLabel], classes: Sequence[str], task: str) -> None:
    numbers = {name: number for number, name in enumerate(classes)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        entries.append({"id": number, "file_name": image.name, "width": image.width, "height": image.height})
        for box in image.boxes:
            sides = [float(box["x"]), float(box["y"]), float(box["w"]), float(box["h"])]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": numbers[box["label"]],
                    "bbox": sides,
                    "area": sides[2] * sides[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    _write_json(folder / "annotations.json", content)


def _yolo(folder: Path, images: Sequence[ImageToLabel], classes: Sequence[str], task: str) -> None:
    numbers = {name: number for number, name in enumerate(classes)}
    for image in images:
        lines = []
        for box in image.boxes:
            shares = (
                (box["x"] + box["w"] / 2) / image.width,
                (box["y"] + box["h"] / 2) / image.height,
                box["w"] / image.width,
                box["h"] / image.height,
            )
            lines.append(" ".join([str(numbers[box["label"]]), *(repr(float(share)) for share in shares)]))
        # `images/…` has its labels below `labels/…`.
        name = PurePosixPath("labels", *PurePosixPath(image.name).parts[1:]).with_suffix(".txt")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    names = {"nc": len(classes), "names": list(classes)}
    (folder / "data.yaml").write_text(yaml.safe_dump(names, sort_keys=False, allow_unicode=True))


def _voc(folder: Path, images: Sequence[ImageToLabel], classes: Sequence[str], task: str) -> None:
    for image in images:
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = PurePosixPath(image.name).name
        size = ElementTree.SubElement(root, "size")
        for name, value in (("width", image.width), ("height", image.height)):
            ElementTree.SubElement(size, name).text = str(value)
        for box in image.boxes:
            entry = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(entry, "name").text = box["label"]
            bounds = ElementTree.SubElement(entry, "bndbox")
            # Pixels are counted from 1, and the last one belongs to the box.
            sides = (box["x"] + 1, box["y"] + 1, box["x"] + box["w"], box["y"] + box["h"])
            for corner, side in zip(_CSV_CORNERS, sides, strict=True):
                ElementTree.SubElement(bounds, corner).text = str(round(side))
        _write_xml((folder / image.name).with_suffix(".xml"), root)


def _cvat(folder: Path, images: Sequence[ImageToLabel], classes: Sequence[str], task: str) -> None:
    """CVAT for images 1.1."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task_entry = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    labels = ElementTree.SubElement(task_entry, "labels")
    for name in classes:
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = name
    for number, image in enumerate(images):
        size = {"width": str(image.width), "height": str(image.height)}
        entry = ElementTree.SubElement(root, "image", {"id": str(number), "name": image.name, **size})
        if dataset_task(task).whole_images and image.label:
            ElementTree.SubElement(entry, "tag", {"label": image.label, "source": "auto"})
        for box in image.boxes:
            sides = {
                "xtl": box["x"],
                "ytl": box["y"],
                "xbr": box["x"] + box["w"],
                "ybr": box["y"] + box["h"],
            }
            corners = {name: repr(float(value)) for name, value in sides.items()}
            of_box = {"label": box["label"], "source": "auto", "occluded": "0", "z_order": "0"}
            ElementTree.SubElement(entry, "box", {**of_box, **corners})
    _write_xml(folder / "annotations.xml", root)


def _label_studio(folder: Path, images: Sequence[ImageToLabel], classes: Sequence[str], task: str) -> None:
    """Tasks with the labels as predictions, and the labelling interface that they fit.

    Images are served by Label Studio itself from below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, the folder's parent.
    """
    learnt = dataset_task(task)
    control, value, choice = learnt.label_studio
    tasks: list[dict[str, Any]] = []
    for image in images:
        # Percentages of the image's sides (labelstud.io/guide/export, "Units of image annotations").
        results: list[dict[str, Any]] = [
            {
                "x": 100 * box["x"] / image.width,
                "y": 100 * box["y"] / image.height,
                "width": 100 * box["w"] / image.width,
                "height": 100 * box["h"] / image.height,
                "rotation": 0,
                value: [box["label"]],
            }
            for box in image.boxes
        ]
        if learnt.whole_images and image.label:
            results = [{value: [image.label]}]
        size = {"original_width": image.width, "original_height": image.height, "image_rotation": 0}
        about = {"from_name": "label", "to_name": "image", "type": value, **size}
        address = f"/data/local-files/?d={quote(f'{folder.resolve().name}/{image.name}')}"
        entry: dict[str, Any] = {"data": {"image": address, **image.notes}}
        if results:
            prediction: dict[str, Any] = {"result": [{**about, "value": each} for each in results]}
            if image.score is not None:
                prediction["score"] = image.score
            entry["predictions"] = [prediction]
        tasks.append(entry)
    _write_json(folder / "tasks.json", tasks)
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": "image", "value": "$image"})
    choices = ElementTree.SubElement(view, control, {"name": "label", "toName": "image"})
    for name in classes:
        ElementTree.SubElement(choices, choice, {"value": name})
    _write_xml(folder / "labelling-interface.xml", view)


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _write_xml(file: Path, root: ElementTree.Element) -> None:
    ElementTree.indent(root)
    file.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


_WRITERS: Mapping[str, Writer] = {
    "coco": _coco,
    "yolo": _yolo,
    "voc": _voc,
    "csv": _table,
    "label-studio": _label_studio,
    "cvat": _cvat,
}
_OF_BOXES: Mapping[str, Writer] = {
    "coco": _coco,
    "yolo": _yolo,
    "voc": _voc,
    "csv": _boxes_csv,
    "label-studio": _label_studio,
    "cvat": _cvat,
}
