"""Pascal VOC: one XML file an image, `ImageSets/Main/<train|val|test>.txt` where splits came with the data.

VOC counts pixels from 1 and includes the last: x = xmin - 1, w = xmax - xmin + 1. Masks of segmentation are not read.
"""

import re
import xml.etree.ElementTree as ElementTree

from visionops_assets.dataset.importing.file_listing import Listing
from visionops_assets.dataset.importing.formats.json_and_xml import read_xml, xml_root_is
from visionops_assets.dataset.importing.image_columns import ImageRecord
from visionops_assets.dataset.importing.image_source import Box, SourceError, quoted
from visionops_assets.dataset.importing.plain_text import read_text, stated_size
from visionops_assets.dataset.importing.source_files import SourceFile
from visionops_assets.dataset.importing.split_names import SPLIT_NAMES, path_stem
from visionops_assets.dataset.importing.statements import Said, Stated

NAME = "voc"

_LISTS = re.compile(r"(?:^|/)imagesets/(?:main/)?[^/]+$", re.IGNORECASE)
_MASKS = ("segmentationclass", "segmentationobject", "segmentationclassraw")


def recognises(listing: Listing) -> str | None:
    """Whether there is an XML file with VOC's root."""
    first = next(
        (name for name in listing.ending(".xml") if xml_root_is(listing.file(name), "annotation")), None
    )
    return None if first is None else f"{first} is an annotation of Pascal VOC"


def read(listing: Listing, stated: Stated) -> Said:
    """What every XML file says of its image. Raises `SourceError` naming the file that cannot be read."""
    said = Said(one_each=True, kept_by="file", why_unlabelled="has no XML file", no_data=_mask)
    for name in listing.ending(".xml"):
        path, own = listing.file(name), path_stem(name.rpartition("/")[2])
        try:
            root = read_xml(path, stated.encoding)
            boxes = [_box(entry, path) for entry in root.iter("object")]
        except SourceError as error:
            if not stated.leave_out_errors or not xml_root_is(path, "annotation"):
                raise
            said.read.add(name)
            said.refuse(own, name, -1, error, also=own)
            continue
        if root.tag != "annotation":
            continue
        said.read.add(name)
        said.add(
            (root.findtext("filename") or "").strip() or own,
            name,
            record=ImageRecord(
                boxes=boxes, frame=stated_size(root.findtext("size/width"), root.findtext("size/height"))
            ),
            also=own,
        )
    for name, split in _lists(listing):
        said.read.add(name)
        lines = enumerate(read_text(listing.file(name), stated.encoding).splitlines(), start=1)
        said.listed += [(line.split()[0], split, name, number) for number, line in lines if line.strip()]
    return said


def _lists(listing: Listing) -> list[tuple[str, str]]:
    """The lists of images in `ImageSets/Main`, or `ImageSets` itself, with their splits."""
    texts = [name for name in listing.ending(".txt") if _LISTS.search(name)]
    mains = [name for name in texts if "/main/" in name.lower()] or texts
    found = [(name, split) for name in mains if (split := SPLIT_NAMES.get(_called(name))) is not None]
    # Without a list of train alone, what may be trained on is train.
    together = (
        []
        if any(split == "train" for _, split in found)
        else [name for name in mains if _called(name) == "trainval"]
    )
    return [*found, *((name, "train") for name in together)]


def _called(name: str) -> str:
    return path_stem(name.rpartition("/")[2]).lower()


def _mask(name: str) -> str | None:
    folder = next((part for part in name.split("/")[:-1] if part.lower() in _MASKS), None)
    return None if folder is None else f"masks in {folder}"


def _box(entry: ElementTree.Element, xml: SourceFile) -> Box:
    label = (entry.findtext("name") or "").strip()
    try:
        left, top, right, bottom = (
            float(entry.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError as error:
        raise SourceError(
            f"{xml}: the object {quoted(label)} has no bndbox with xmin, ymin, xmax, ymax"
        ) from error
    if not label:
        raise SourceError(f"{xml}: an object has no name")
    return {"x": left - 1, "y": top - 1, "w": right - left + 1, "h": bottom - top + 1, "label": label}
