"""COCO: JSON files of images, categories and boxes (cocodataset.org/#format-data), beside their images.

The split is in the file's name (`instances_train2017.json`). Boxes are kept; what only segmentation or key
points say is not. Crowd regions, which outline no single object, are left out.
"""

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from visionops_assets.dataset.findings import Finding, findings_table
from visionops_assets.dataset.importing.gathering import Gathering
from visionops_assets.dataset.importing.listing import Index, Names, image_files, paths_below
from visionops_assets.dataset.importing.source import Box, Folder, Source, SourceError, split_in_name

NAME = "coco"


def recognises(folder: Path) -> bool:
    """Whether there is a JSON file of COCO's kind."""
    return folder.is_dir() and any(_looks_like_coco(path) for path in _json_files(folder))


def read(folder: Path) -> Source:
    """Every image that a file names, with its boxes. Raises `SourceError` naming the file."""
    files, findings = image_files(folder)
    by_name, by_last = Index(files), Index(files, lambda name: name.rpartition("/")[2])
    taken = np.zeros(len(files), bool)
    images = Gathering(Folder(str(folder)))
    for file in (path for path in _json_files(folder) if _looks_like_coco(path)):
        content = _load(file)
        boxes, crowds = _boxes(content, file)
        if crowds:
            what = f"has {crowds:,} crowd regions"
            findings.append(Finding("single objects", file.name, what, "they are left out", "WARN"))
        split = split_in_name(file.stem)
        for entry in content["images"]:
            found = _find(str(entry.get("file_name", "")), split, files, by_name, by_last)
            if found is None:
                shown = str(entry.get("file_name"))
                findings.append(
                    Finding(
                        "complete",
                        shown,
                        f"is annotated ({file.name}) but is not there",
                        "add it, or remove its entry",
                    )
                )
            elif taken[found]:
                what = f"is annotated again in {file.name}"
                findings.append(Finding("annotated once", files[found], what, "keep one entry"))
            else:
                taken[found] = True
                images.add(
                    files[found],
                    boxes=boxes.get(entry["id"], []),
                    split=split,
                    captured_at=_time(entry.get("date_captured")),
                    extra={"coco_id": int(entry["id"])} if isinstance(entry["id"], int) else {},
                )
    for name in sorted(files[position] for position in np.flatnonzero(~taken).tolist()):
        findings.append(Finding("annotated", name, "is in no annotation file", "it is left out", "WARN"))
    return Source(NAME, images.images().by_name(), findings_table(findings))


def _json_files(folder: Path) -> list[Path]:
    return paths_below(folder, lambda name: name.endswith(".json") and not name.startswith("."))


def _looks_like_coco(path: Path) -> bool:
    # Without reading hundreds of megabytes: a JSON object that has the keys, whichever comes first.
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
        stream.seek(max(0, path.stat().st_size - (1 << 16)))
        ends = head + stream.read()
    return (
        head.lstrip().startswith(b"{")
        and sum(key in ends for key in (b'"images"', b'"annotations"', b'"categories"')) >= 2
    )


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise SourceError(f"{file}: is not JSON that can be read: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise SourceError(
                f"{file}: has no list {key!r}; expected COCO's images, annotations and categories"
            )
    return content


def _boxes(content: dict[str, Any], file: Path) -> tuple[dict[Any, list[Box]], int]:
    names = {category.get("id"): str(category.get("name")) for category in content["categories"]}
    boxes: dict[Any, list[Box]] = defaultdict(list)
    crowds = 0
    for number, annotation in enumerate(content["annotations"]):
        if annotation.get("iscrowd"):
            crowds += 1
            continue
        try:
            x, y, w, h = (float(value) for value in annotation["bbox"])
            label = names[annotation["category_id"]]
            boxes[annotation["image_id"]].append({"x": x, "y": y, "w": w, "h": h, "label": label})
        except (KeyError, TypeError, ValueError) as error:
            which = annotation.get("id", number)
            raise SourceError(
                f"{file}: annotation {which} has no usable bbox, image_id or category_id: {error!r}"
            ) from error
    return boxes, crowds


def _find(file_name: str, split: str | None, files: Names, by_name: Index, by_last: Index) -> int | None:
    """The image a file name means: that path, or the one image called so (in the split's folder, if several)."""
    position = by_name.first(file_name)
    if position is not None:
        return position
    last = file_name.rpartition("/")[2]
    named = [place for place in by_last.all(last) if files[place].endswith(f"/{file_name}")]
    if len(named) > 1:
        folders = {place: files[place].rpartition("/")[0] for place in named}
        named = [place for place in named if split is not None and split_in_name(folders[place]) == split]
    return named[0] if len(named) == 1 else None


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
