"""CVAT for images (`annotations.xml`, version 1.1): images with boxes, polygons, polylines, points, or tags.

Of what outlines an object the box around it is kept; a turned box gives the box around its corners, a skeleton that
around its points. A tag is the label
of an image where there are no outlines. The subset is the split.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import NamedTuple

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.file_listing import Listing
from visionops_assets.dataset.importing.formats.json_and_xml import xml_elements, xml_root_is
from visionops_assets.dataset.importing.image_columns import ImageRecord
from visionops_assets.dataset.importing.image_source import Box, SourceError, quoted
from visionops_assets.dataset.importing.plain_text import stated_size
from visionops_assets.dataset.importing.source_files import SourceFile
from visionops_assets.dataset.importing.split_names import split_of
from visionops_assets.dataset.importing.statements import Said, Stated
from visionops_assets.images.box_geometry import box_around_ellipse, box_around_points, turned_corners

NAME = "cvat"

_OUTLINES = ("polygon", "polyline", "points", "cuboid")
_SHAPES = ("box", "ellipse", "mask", "skeleton", *_OUTLINES)
# Corners of a cuboid by the endings of their attributes: left or right, top or bottom, front or back.
_CUBOID = ("tl1", "tr1", "bl1", "br1", "tl2", "tr2", "bl2", "br2")


def recognises(listing: Listing) -> str | None:
    """Whether there is an XML file with CVAT's root."""
    found = _files(listing)
    return f"{found[0]} is a file of CVAT for images" if found else None


def read(listing: Listing, stated: Stated) -> Said:
    """What CVAT's files say of their images. Raises `SourceError` naming file and image."""
    said = Said(kept_by="image", lists_all=True)
    files = {name: [*_images(listing.file(name), stated)] for name in _files(listing)}
    # One source is about objects or about whole images.
    shapes = any(image.boxes for images in files.values() for image in images)
    tagged = any(image.tags for images in files.values() for image in images)
    for name, images in files.items():
        said.read.add(name)
        beside = sum(len(image.tags) for image in images) if shapes else 0
        if beside:
            what = f"has {beside:,} tags, where others have boxes"
            said.findings.append(Finding("all read", name, what, "they are not read", "WARN"))
        for number, (image, boxes, tags, problem) in enumerate(images):
            if problem is not None:
                said.refuse(image.get("name") or "", name, number, problem)
                continue
            split = split_of(image.get("subset") or "")
            size = stated_size(image.get("width"), image.get("height"))
            label = None
            if tagged and not shapes:
                if not tags:
                    continue
                label = _label_of(tags, name, said)
            else:
                said.left_out["tags beside boxes"] += len(tags)
            said.add(
                image.get("name") or "",
                name,
                number,
                ImageRecord(label, None if label is not None else boxes, split, frame=size),
                part=image.get("subset"),
            )
    said.left_out = +said.left_out
    return said


def _label_of(tags: list[str], name: str, said: Said) -> str:
    """The first tag; that there are others is told."""
    if len(set(tags)) > 1:
        shown = ", ".join(quoted(tag, plain=True) for tag in sorted(set(tags))[:12])
        said.tell("one label an image", f"has the tags {shown} ({name})", "keep one, or draw boxes")
    said.left_out["other tags of the image"] += len(tags) - 1
    return tags[0]


def _files(listing: Listing) -> list[str]:
    return [name for name in listing.ending(".xml") if xml_root_is(listing.file(name), "annotations")]


class _Image(NamedTuple):
    """An image's attributes, the boxes around its outlines and its tags, or why these cannot be read."""

    attributes: dict[str, str]
    boxes: list[Box]
    tags: list[str]
    problem: SourceError | None = None


def _images(path: SourceFile, stated: Stated) -> Iterator[_Image]:
    for element in xml_elements(path, stated.encoding):
        if element.tag == "track":
            raise SourceError(
                f"{path}: is CVAT's format for videos; export the task as `CVAT for images 1.1` with its images"
            )
        if element.tag == "image":
            where = f"{path}: image {quoted(element.get('name'), plain=True)}"
            try:
                boxes = [box for one in element if (box := _box(one, where)) is not None]
                tags = [one.get("label", "").strip() for one in element if one.tag == "tag"]
                yield _Image(dict(element.attrib), boxes, tags)
            except SourceError as error:
                if not stated.leave_out_errors:
                    raise
                yield _Image(dict(element.attrib), [], [], error)
            element.clear()


def _points(shape: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
    if pairs == [[""]] and shape.tag == "cuboid":
        return [(float(shape.get(f"x{at}", "")), float(shape.get(f"y{at}", ""))) for at in _CUBOID]
    return [(float(one), float(other)) for one, other in pairs]


def _box(shape: ElementTree.Element, where: str) -> Box | None:
    if shape.tag == "tag":
        return None
    if shape.tag not in _SHAPES:
        raise SourceError(f"{where}: {quoted(shape.tag)} is no shape that is read; draw a box, or remove it")
    label = shape.get("label", "").strip()
    try:
        if shape.tag == "box":
            left, top, right, bottom = (float(shape.get(side, "")) for side in ("xtl", "ytl", "xbr", "ybr"))
            x, y, w, h = box_around_points(
                turned_corners(left, top, right, bottom, float(shape.get("rotation") or 0))
            )
        elif shape.tag == "ellipse":
            cx, cy, rx, ry = (float(shape.get(side, "")) for side in ("cx", "cy", "rx", "ry"))
            x, y, w, h = box_around_ellipse(cx, cy, rx, ry, float(shape.get("rotation") or 0))
        elif shape.tag == "mask":
            x, y, w, h = (float(shape.get(side, "")) for side in ("left", "top", "width", "height"))
        elif shape.tag in _OUTLINES:
            x, y, w, h = box_around_points(_points(shape))
        else:
            seen = [one for one in shape if one.tag == "points" and one.get("outside") != "1"]
            x, y, w, h = box_around_points([point for one in seen for point in _points(one)])
    except ValueError as error:
        raise SourceError(f"{where}: its {shape.tag} {quoted(label)} has no usable coordinates") from error
    if not label:
        raise SourceError(f"{where}: its {shape.tag} has no label")
    return {"x": x, "y": y, "w": w, "h": h, "label": label}
