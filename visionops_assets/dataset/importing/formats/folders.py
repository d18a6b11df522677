"""Folder per class: `<class>/<image>`, or `<train|val|test>/<class>/<image>` with a split of its own."""

from pathlib import Path

from visionops_assets.dataset.findings import Finding, findings_table
from visionops_assets.dataset.importing.gathering import Gathering
from visionops_assets.dataset.importing.listing import has_image_below, image_files
from visionops_assets.dataset.importing.source import SPLIT_NAMES, Folder, Source

NAME = "folders"


def recognises(folder: Path) -> bool:
    """Whether images lie in folders below this one."""
    return folder.is_dir() and has_image_below(folder)


def read(folder: Path) -> Source:
    """Every image with its folder's name as label."""
    files, findings = image_files(folder)
    tops = {top for top, inside, _ in (name.partition("/") for name in files) if inside}
    has_splits = bool(tops) and all(top.lower() in SPLIT_NAMES for top in tops)
    images = Gathering(Folder(str(folder)))
    for name in files:
        parts = name.split("/")
        if len(parts) < 2 + has_splits:
            findings.append(
                Finding(
                    "annotated", name, "lies in no class folder", "it has no label and is left out", "WARN"
                )
            )
            continue
        split = SPLIT_NAMES[parts[0].lower()] if has_splits else None
        images.add(name, parts[1 if has_splits else 0], split=split)
    return Source(NAME, images.images(), findings_table(findings))
