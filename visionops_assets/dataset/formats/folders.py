"""Folder per class: `<class>/<image>`, or `<train|val|test>/<class>/<image>` with a split of its own."""

from pathlib import Path

from visionops_assets.dataset.findings import Finding, findings_table
from visionops_assets.dataset.formats.source import SPLIT_NAMES, FileBytes, Source, SourceImage, image_files

NAME = "folders"


def recognises(folder: Path) -> bool:
    """Whether images lie in folders below this one."""
    return folder.is_dir() and any(len(path.relative_to(folder).parts) > 1 for path in image_files(folder)[0])


def read(folder: Path) -> Source:
    """Every image with its folder's name as label."""
    files, findings = image_files(folder)
    tops = {path.relative_to(folder).parts[0] for path in files if len(path.relative_to(folder).parts) > 1}
    has_splits = bool(tops) and all(top.lower() in SPLIT_NAMES for top in tops)
    images = []
    for path in files:
        parts = path.relative_to(folder).parts
        name = "/".join(parts)
        if len(parts) < 2 + has_splits:
            findings.append(
                Finding(
                    "annotated", name, "lies in no class folder", "it has no label and is left out", "WARN"
                )
            )
            continue
        split = SPLIT_NAMES[parts[0].lower()] if has_splits else None
        images.append(SourceImage(name, FileBytes(str(path)), parts[1 if has_splits else 0], split=split))
    return Source(NAME, images, findings_table(findings))
