"""Pascal VOC: one XML file an image, `ImageSets/Main/<train|val|test>.txt` where splits came with the data.

VOC counts pixels from 1 and includes the last: x = xmin - 1, w = xmax - xmin + 1.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path, PurePosixPath

import numpy as np

from visionops_assets.dataset.findings import Finding, findings_table
from visionops_assets.dataset.importing.gathering import Gathering
from visionops_assets.dataset.importing.listing import Index, image_files, paths_below, sorted_names, walk
from visionops_assets.dataset.importing.source import SPLIT_NAMES, Box, Folder, Source, SourceError

NAME = "voc"


def recognises(folder: Path) -> bool:
    """Whether there are XML files with VOC's root."""
    if not folder.is_dir():
        return False
    found = (xml for xml, _ in walk(folder, _is_xml))
    first = min(found, key=lambda name: name.split("/"), default=None)
    return first is not None and b"<annotation" in (folder / first).read_bytes()[:4096]


def read(folder: Path) -> Source:
    """Every image that an XML file is about. Raises `SourceError` naming the file that cannot be read."""
    files, findings = image_files(folder)
    by_stem = Index(files, _stem)
    splits, taken = _splits(folder, by_stem), np.zeros(len(files), bool)
    images = Gathering(Folder(str(folder)))
    for xml in (folder / name for name in sorted_names(name for name, _ in walk(folder, _is_xml))):
        root = _parse(xml)
        stem = Path(root.findtext("filename") or xml.stem).stem
        named = by_stem.all(stem) or by_stem.all(xml.stem)
        if not named:
            findings.append(
                Finding(
                    "complete",
                    root.findtext("filename") or xml.stem,
                    f"is annotated ({xml.name}) but is not there",
                    "add it",
                )
            )
            continue
        place = named[-1]
        name = files[place]
        if taken[place]:
            findings.append(
                Finding("annotated once", name, f"is annotated again in {xml.name}", "keep one file")
            )
            continue
        taken[place] = True
        images.add(name, boxes=[_box(entry, xml) for entry in root.iter("object")], split=splits.get(place))
    for place in np.flatnonzero(~taken).tolist():
        findings.append(Finding("annotated", files[place], "has no XML file", "it is left out", "WARN"))
    return Source(NAME, images.images().by_name(), findings_table(findings))


def _is_xml(name: str) -> bool:
    return name.endswith(".xml")


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


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


def _splits(folder: Path, by_stem: Index) -> dict[int, str]:
    """The split of each image by its place, from the lists that are called like a split."""
    lists = paths_below(folder, lambda name: name.endswith(".txt") and name[:-4] in SPLIT_NAMES)
    splits: dict[int, str] = {}
    for path in lists:
        if path.parts[-3:-1] == ("ImageSets", "Main"):
            with path.open() as lines:
                for line in lines:
                    if line.strip():
                        splits |= dict.fromkeys(by_stem.all(line.split()[0]), SPLIT_NAMES[path.stem])
    return splits
