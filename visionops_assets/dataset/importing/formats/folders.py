"""Folder per class: `<class>/<image>`, or `<train|val|test>/<class>/<image>` with a split of its own; also
`<class>/<train|val|test>/<image>`.

The last guess: a folder that other formats have is never a class, nor is a tree with annotations that nothing reads.
"""

from collections import Counter
from collections.abc import Iterator

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.file_listing import Listing, is_image_name
from visionops_assets.dataset.importing.gathering import Gathering
from visionops_assets.dataset.importing.options import Stated
from visionops_assets.dataset.importing.said import Made
from visionops_assets.dataset.importing.source import SourceError
from visionops_assets.dataset.importing.stated_splits import split_of

NAME = "folders"

_LAYOUT = frozenset(
    {
        "images",
        "image",
        "imgs",
        "labels",
        "label",
        "annotations",
        "jpegimages",
        "imagesets",
        "segmentationclass",
    }
    | {"segmentationobject", "obj_train_data", "obj_valid_data", "obj_test_data", "masks"}
)
_ANNOTATIONS = (
    ".txt",
    ".json",
    ".jsonl",
    ".xml",
    ".csv",
    ".tsv",
    ".parquet",
    ".names",
    ".ndjson",
    ".xlsx",
    ".xls",
    ".ods",
)
_DOCUMENTS = (
    "readme",
    "license",
    "licence",
    "notice",
    "changelog",
    "citation",
    "authors",
    "about",
    "requirements",
)


def recognises(listing: Listing) -> str | None:
    """Whether images lie in folders."""
    first = next((name for name in listing.images if "/" in name), None)
    return None if first is None else f"images lie in folders ({first})"


def read(listing: Listing, stated: Stated) -> Made:
    """Every image with its folder's name as label."""
    if stated.format != NAME:
        _check_read(listing)
    by_split = {
        name.partition("/")[0]
        for name in listing.images
        if name.count("/") > 1 and split_of(name.partition("/")[0]) is not None
    }
    images, findings, left_out = Gathering(listing.folder), listing.link_findings(), Counter[str]()
    for name in listing.images:
        parts = name.split("/")
        why, label, split = "", "", None
        if by_split and parts[0] not in by_split:
            why = "lies in none of the splits " + ", ".join(sorted(by_split))
        elif len(parts) < 2 + bool(by_split):
            why = "lies in no class folder"
        else:
            split, label = (split_of(parts[0]), parts[1]) if by_split else (None, parts[0])
            if not by_split and len(parts) > 2:
                split = split_of(parts[1])
        if label and stated.format != NAME:
            _check_class(label, name, listing)
        if why:
            left_out[why.partition(" splits")[0]] += 1
            findings.append(Finding("annotated", name, why, "it has no label and is left out", "WARN"))
        else:
            images.add(name, label, split=split)
    findings += _contradictions(listing, by_split)
    return Made(images.images(), findings, left_out)


def _contradictions(listing: Listing, by_split: set[str]) -> Iterator[Finding]:
    """Images that a link puts into another class than they are in."""

    def class_of(name: str) -> str:
        parts = name.split("/")
        return parts[bool(by_split)] if len(parts) > 1 + bool(by_split) else ""

    classes = {class_of(name) for name in listing.images}
    for name, other in listing.again.items():
        if is_image_name(name) and class_of(name) in classes - {"", class_of(other)}:
            what = f"is {class_of(name)} by its folder, and a link to {other}, which is {class_of(other)}"
            yield Finding("one label an image", name, what, "keep the one that is right")


def is_document(name: str) -> bool:
    """Whether a file tells people about the data, and nothing of its images."""
    last = name.rpartition("/")[2].lower()
    return last.startswith(_DOCUMENTS) or last.endswith((".md", ".pdf", ".html", ".rst"))


def _check_read(listing: Listing) -> None:
    unread = [name for name in listing.ending(*_ANNOTATIONS) if not is_document(name)]
    if unread:
        more = f" and {len(unread) - 1:,} more" if len(unread) > 1 else ""
        raise SourceError(
            f"{listing.root}: {unread[0]}{more} may be annotations, but fit no format that is read; name the format "
            "with --format, or take folders for classes and leave these unread with --format folders"
        )


def _check_class(label: str, name: str, listing: Listing) -> None:
    if label.lower() in _LAYOUT or split_of(label) is not None:
        raise SourceError(
            f"{listing.root}: nothing says what {name} shows: {label}/ is no class, and there are no annotations that "
            "are read. Expected for example one folder for each class, or a labels.csv with columns path, label"
        )
