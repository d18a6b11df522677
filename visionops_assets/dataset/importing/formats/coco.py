"""COCO: JSON files of images, categories and boxes (cocodataset.org/#format-data), beside their images.

The split is in the file's name or folder (`instances_train2017.json`, `valid/_annotations.coco.json`). Boxes are kept,
and of a segmentation without one the box around it. Crowd regions, which outline no single object, are left out. Of
the official files the instances are read; key points, captions and panoptic ones are named.
"""

import math
import os
from array import array
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.file_listing import Listing
from visionops_assets.dataset.importing.formats.json_and_xml import JSONFile
from visionops_assets.dataset.importing.image_columns import ImageRecord
from visionops_assets.dataset.importing.image_source import Box, SourceError, quoted
from visionops_assets.dataset.importing.plain_text import key_of, says_yes, stated_size
from visionops_assets.dataset.importing.source_files import SourceFile
from visionops_assets.dataset.importing.split_names import path_stem
from visionops_assets.dataset.importing.statements import Said, Stated
from visionops_assets.images.box_geometry import box_around_points, box_around_segmentation, turned_corners

NAME = "coco"

_LISTS = ("images", "annotations", "categories")
_OTHERS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")
_SHOWN = 5
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def recognises(listing: Listing) -> str | None:
    """Whether there is a JSON file of COCO's kind."""
    found = sorted(_files(listing), key=lambda name: name.rpartition("/")[2].lower().startswith(_OTHERS))
    return f"{found[0]} has COCO's images, annotations and categories" if found else None


def read(listing: Listing, stated: Stated) -> Said:
    """Every image that a file names, with its boxes. Raises `SourceError` naming the file."""
    said = Said(kept_by="entry", lists_all=True)
    found = _files(listing)
    instances = [name for name in found if path_stem(name.rpartition("/")[2]).startswith("instances")]
    for name in found:
        other = next((kind for kind in _OTHERS if name.rpartition("/")[2].lower().startswith(kind)), None)
        if other is not None and (instances or other in ("captions", "panoptic", "image_info")):
            said.not_read[name] = f"is COCO's file of {other.replace('_', ' ')}"
        else:
            said.read.add(name)
            _Reading(said, name, listing.file(name), stated).read()
    for name, reason in said.not_read.items():
        why = "it is not read" + ("; the instances are" if instances else "")
        said.findings.append(Finding("all read", name, reason, why, "WARN"))
    if not said.read:
        raise SourceError(
            f"{listing.root}: {', '.join(said.not_read)} have no boxes; put the file of instances there"
        )
    return said


def _files(listing: Listing) -> list[str]:
    return [name for name in listing.ending(".json") if _looks_like_coco(listing.file(name))]


def _looks_like_coco(path: SourceFile) -> bool:
    # Without reading hundreds of megabytes: a JSON object that has the keys, whichever comes first.
    with path.open() as stream:
        head = stream.read(1 << 16)
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - (1 << 16)))
        ends = head + stream.read()
    for mark in _MARKS:
        head = head.removeprefix(mark)
    if b"\0" in head[:4]:
        head, ends = head.replace(b"\0", b""), ends.replace(b"\0", b"")
    # An entry of the image, a result of the panoptic kind included.
    return (
        head.lstrip().startswith(b"{")
        and sum(key in ends for key in (b'"images"', b'"annotations"', b'"categories"')) >= 2
        # Datumaro has items in their place.
        and (b'"images"' in ends or b'"items"' not in ends)
    )


@dataclass
class _Boxes:
    """Annotations as columns: the number of the image's identity, of the class, and the box."""

    images: dict[str, int] = field(default_factory=dict)
    image: "array[int]" = field(default_factory=lambda: array("i"))
    category: "array[int]" = field(default_factory=lambda: array("i"))
    corners: "array[float]" = field(default_factory=lambda: array("d"))
    identity: "array[int]" = field(default_factory=lambda: array("q"))


class _Reading:
    def __init__(self, said: Said, name: str, path: SourceFile, stated: Stated) -> None:
        self._said, self._name, self._path = said, name, path
        self._json = JSONFile(path, stated.encoding)
        self._names: dict[str, str] = {}
        self._categories: dict[str, int] = {}
        self._boxes = _Boxes()
        self._seen: set[str] = set()
        self._crowds, self._around, self._turned = 0, 0, 0
        self._leaves_out = stated.leave_out_errors
        # Images with an annotation that cannot be read, and what it is.
        self._unusable: dict[str, str] = {}
        self._of_none: list[str] = []
        self._there: set[str] = set()

    def read(self) -> None:
        """Annotations may come before images and categories: they are gathered first."""
        for key, number, item in self._json.members(frozenset(_LISTS)):
            if number < 0 and key in _LISTS and isinstance(item, list):
                self._there.add(key)
            if number >= 0 and key == "categories":
                self._category(item, number)
            elif number >= 0 and key == "annotations":
                self._annotation(item, number)
        for key in _LISTS:
            if key not in self._there:
                raise SourceError(
                    f"{self._path}: has no list {key!r}; expected COCO's images, annotations and categories"
                )
        self._check_categories()
        self._tell()
        self._images()

    def _category(self, item: Any, number: int) -> None:
        key = key_of(item.get("id")) if isinstance(item, dict) else None
        name = item.get("name") if isinstance(item, dict) else None
        if key is None or name is None:
            raise SourceError(f"{self._path}: category number {number} has no id or no name")
        if key in self._names:
            raise SourceError(
                f"{self._path}: two categories have the id {quoted(key, plain=True)}, {quoted(self._names[key])} and "
                f"{quoted(str(name))}; each needs its own"
            )
        self._names[key] = str(name)

    def _annotation(self, item: Any, number: int) -> None:
        if not isinstance(item, dict):
            raise SourceError(f"{self._path}: annotation number {number} is no object with a bbox")
        shown = item.get("id", number)
        if says_yes(item.get("iscrowd")):
            self._crowds += 1
            return
        image, category = key_of(item.get("image_id")), key_of(item.get("category_id"))
        box = _box(item)
        if box is None or image is None or category is None:
            lacking = "bbox" if box is None else "image_id" if image is None else "category_id"
            found = item.get(lacking)
            what = f"it has no {lacking}" if found is None else f"its {lacking} is {quoted(str(found)[:40])}"
            if lacking == "bbox" and item.get("bbox") in (None, []):
                what = "it has no bbox, and its segmentation outlines nothing"
            if not self._leaves_out:
                raise SourceError(
                    f"{self._path}: annotation {shown} has no usable bbox, image_id or category_id: {what}"
                )
            if image is None:
                self._of_none.append(str(shown))
                self._said.left_out["has no image_id"] += 1
            else:
                self._unusable.setdefault(image, f"annotation {shown}: {what}")
                self._said.left_out["cannot be read"] += 1
            return
        self._turned += bool(_degrees(item))
        self._around += "bbox" not in item or item["bbox"] in (None, [])
        boxes = self._boxes
        boxes.image.append(boxes.images.setdefault(image, len(boxes.images)))
        boxes.category.append(self._categories.setdefault(category, len(self._categories)))
        boxes.corners.extend(box)
        boxes.identity.append(shown if isinstance(shown, int) and abs(shown) < 1 << 63 else number)

    def _check_categories(self) -> None:
        for key, number in self._categories.items():
            if key not in self._names:
                first = self._boxes.identity[self._boxes.category.index(number)]
                raise SourceError(
                    f"{self._path}: annotation {first} has no usable bbox, image_id or category_id: no category has "
                    f"the id {quoted(key, plain=True)}; there are {_few([*self._names])}"
                )
        by_name: dict[str, list[str]] = {}
        for key, name in self._names.items():
            by_name.setdefault(name, []).append(key)
        for name, keys in by_name.items():
            if len(keys) > 1 and any(key in self._categories for key in keys):
                what = f"has categories {' and '.join(keys)} that are both called {quoted(name)}"
                self._tell_of_file("one class a name", what, "they are taken for one class")

    def _tell(self) -> None:
        if self._crowds:
            self._said.left_out["crowd regions"] += self._crowds
            what = f"has {self._crowds:,} crowd regions"
            self._tell_of_file("single objects", what, "they are left out")
        if self._around:
            what = f"has {self._around:,} annotations without a bbox"
            self._tell_of_file("boxes given", what, "the box around their segmentation is taken")

        if self._turned:
            what = f"has {self._turned:,} boxes that are turned (attributes.rotation)"
            self._tell_of_file("boxes given", what, "the box around the turned one is taken")

    def _tell_of_file(self, check: str, what: str, why: str) -> None:
        self._said.findings.append(Finding(check, self._name.rpartition("/")[2], what, why, "WARN"))

    def _images(self) -> None:
        boxes, named = self._boxes, [""] * len(self._categories)
        for key, number in self._categories.items():
            named[number] = self._names[key]
        image, category = np.array(boxes.image, np.int32), np.array(boxes.category, np.int32)
        corners = np.array(boxes.corners, np.float64).reshape(-1, 4)
        order = np.argsort(image, kind="stable")
        starts = np.searchsorted(image[order], np.arange(len(boxes.images) + 1))
        met = np.zeros(len(boxes.images), bool)
        for key, number, entry in self._json.members(frozenset(_LISTS)):
            if key != "images" or number < 0:
                continue
            identity = self._identity(entry, number)
            of_image = boxes.images.get(identity)
            mine: list[Box] = []
            if of_image is not None:
                met[of_image] = True
                for one in order[starts[of_image] : starts[of_image + 1]].tolist():
                    x, y, w, h = corners[one].tolist()
                    mine.append({"x": x, "y": y, "w": w, "h": h, "label": named[category[one]]})
            own = entry["id"]
            if identity in self._unusable:
                self._said.left_out["their image has one that cannot be read"] += len(mine)
                problem = SourceError(f"{self._unusable[identity]} ({self._name})")
                self._said.refuse(str(entry.get("file_name") or ""), self._name, -1, problem, counts=False)
                continue
            self._said.add(
                str(entry.get("file_name") or ""),
                self._name,
                record=ImageRecord(
                    boxes=mine,
                    captured_at=_time(entry.get("date_captured")),
                    extra={"coco_id": own} if isinstance(own, int) and abs(own) < 1 << 63 else {},
                    frame=stated_size(entry.get("width"), entry.get("height")),
                ),
            )
        self._orphans(met, image)

    def _identity(self, entry: Any, number: int) -> str:
        key = key_of(entry.get("id")) if isinstance(entry, dict) else None
        if key is None:
            named = entry.get("file_name") if isinstance(entry, dict) else None
            raise SourceError(
                f"{self._path}: entry {number} of images ({str(named)[:80]!r}) has no id, so its boxes are not found"
            )
        if key in self._seen:
            raise SourceError(f"{self._path}: two images have the id {key}; each needs its own")
        self._seen.add(key)
        return key

    def _orphans(self, met: np.ndarray, image: np.ndarray) -> None:
        if self._of_none:
            what = (
                f"has {len(self._of_none):,} annotations (id {_few(self._of_none)}) without a usable image_id"
            )
            name, why = self._name.rpartition("/")[2], "say which images they are of, or remove them"
            self._said.findings.append(Finding("complete", name, what, why))
        lost = np.flatnonzero(~met[image])
        if not len(lost):
            return
        keys = list(self._boxes.images)
        annotations = _few([str(self._boxes.identity[one]) for one in lost.tolist()])
        images = _few([keys[number] for number in np.flatnonzero(~met).tolist()])
        self._said.left_out["no image has their image_id"] += len(lost)
        self._said.findings.append(
            Finding(
                "complete",
                self._name.rpartition("/")[2],
                f"has {len(lost):,} annotations (id {annotations}) of images it has no entry of (image_id {images})",
                "add the entries of these images, or remove the annotations",
            )
        )


def _box(item: dict[str, Any]) -> tuple[float, float, float, float] | None:
    try:
        if item.get("bbox") not in (None, []):
            x, y, w, h = (float(value) for value in item["bbox"])
            if degrees := _degrees(item):
                return box_around_points(turned_corners(x, y, x + w, y + h, degrees))
            return x, y, w, h
        return box_around_segmentation(item.get("segmentation"))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        return None


def _degrees(item: dict[str, Any]) -> float:
    """By how much a box is turned about its centre, as CVAT says it; an outline beside it says it better."""
    attributes = item.get("attributes")
    turned = attributes.get("rotation") if isinstance(attributes, dict) else None
    if item.get("segmentation") or isinstance(turned, bool) or not isinstance(turned, (int, float)):
        return 0.0
    return float(turned) % 360 if math.isfinite(turned) else math.nan


def _few(values: list[str]) -> str:
    shown = ", ".join(quoted(value, plain=True) for value in values[:_SHOWN])
    return shown if len(values) <= _SHOWN else f"{shown} and {len(values) - _SHOWN:,} more"


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
