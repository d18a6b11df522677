"""Pascal VOC: one XML file an image, `ImageSets/Main/<train|val|test>.txt` where splits came with the data.

VOC counts pixels from 1 and includes the last: x = xmin - 1, w = xmax - xmin + 1.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from visionops_assets.dataset.findings import Finding, findings_table
from visionops_assets.dataset.formats.source import (
    SPLIT_NAMES,
    Box,
    FileBytes,
    Source,
    SourceError,
    SourceImage,
    image_files,
)

NAME = "voc"


def recognises(folder: Path) -> bool:
    """Whether there are XML files with VOC's root."""
    if not folder.is_dir():
        return False
    first = next(iter(sorted(folder.rglob("*.xml"))), None)
    return first is not None and b"<annotation" in first.read_bytes()[:4096]


def read(folder: Path) -> Source:
    """Every image that an XML file is about. Raises `SourceError` naming the file that cannot be read."""
    files, findings = image_files(folder)
    by_stem = {path.stem: path for path in files}
    splits = _splits(folder)
    images: dict[str, SourceImage] = {}
    for xml in sorted(folder.rglob("*.xml")):
        root = _parse(xml)
        stem = Path(root.findtext("filename") or xml.stem).stem
        path = by_stem.get(stem) or by_stem.get(xml.stem)
        if path is None:
            findings.append(
                Finding(
                    "complete",
                    root.findtext("filename") or xml.stem,
                    f"is annotated ({xml.name}) but is not there",
                    "add it",
                )
            )
            continue
        name = path.relative_to(folder).as_posix()
        if name in images:
            findings.append(
                Finding("annotated once", name, f"is annotated again in {xml.name}", "keep one file")
            )
            continue
        boxes = [_box(entry, xml) for entry in root.iter("object")]
        images[name] = SourceImage(name, FileBytes(str(path)), boxes=boxes, split=splits.get(path.stem))
    for path in files:
        name = path.relative_to(folder).as_posix()
        if name not in images:
            findings.append(Finding("annotated", name, "has no XML file", "it is left out", "WARN"))
    return Source(NAME, [images[name] for name in sorted(images)], findings_table(findings))


def _parse(xml: Path) -> ElementTree.Element:
    content = xml.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise SourceError(f"{xml}: declares entities, which annotations do not need; it is not read")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise SourceError(f"{xml}: is not XML that can be read: {error}") from error


def _box(entry: ElementTree.Element, xml: Path) -> Box:
    label = (entry.findtext("name") or "").strip()
    try:
        left, top, right, bottom = (
            float(entry.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError as error:
        raise SourceError(f"{xml}: the object {label!r} has no bndbox with xmin, ymin, xmax, ymax") from error
    if not label:
        raise SourceError(f"{xml}: an object has no name")
    return {"x": left - 1, "y": top - 1, "w": right - left + 1, "h": bottom - top + 1, "label": label}


def _splits(folder: Path) -> dict[str, str]:
    """The split of each image's stem, from the lists that are called like a split."""
    splits: dict[str, str] = {}
    for path in sorted(folder.rglob("ImageSets/Main/*.txt")):
        split = SPLIT_NAMES.get(path.stem)
        if split is not None:
            for line in path.read_text().splitlines():
                if line.strip():
                    splits[line.split()[0]] = split
    return splits
