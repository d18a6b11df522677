"""Finding out which format a source has."""

import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from resources.nearest import there_are
from visionops_assets.dataset.arrow_memory import from_the_system
from visionops_assets.dataset.importing import archives
from visionops_assets.dataset.importing.columns import Images
from visionops_assets.dataset.importing.formats import batches, cifar, coco, folders, mnist, tables, voc, yolo
from visionops_assets.dataset.importing.listing import is_image_name, paths_in
from visionops_assets.dataset.importing.source import Source, SourceError

# The first that recognises a source reads it, so the more particular ones come first.
FORMATS: dict[str, ModuleType] = {
    module.NAME: module for module in (batches, coco, voc, yolo, cifar, mnist, tables, folders)
}


@from_the_system()
def read_source(source: Path, format_name: str | None = None) -> Source:
    """Read a folder, table or archive in the format named, or in the first that recognises it.

    Where the data came with train and val only, val is the holdout: without one nothing could be judged.
    Raises `SourceError`.
    """
    if format_name is not None and format_name not in FORMATS:
        raise SourceError(f"no format is called {format_name!r}; {there_are(format_name, list(FORMATS))}")
    if not source.exists():
        raise SourceError(f"{source}: does not exist")
    unpacked = archives.Unpacked(source) if archives.is_archive(source) else None
    place = _only_folder(unpacked.folder) if unpacked else source
    module = FORMATS[format_name] if format_name else _recognised(place, source)
    found: Source = module.read(place)
    # Batches of ours have their sides for good.
    images = found.images if module is batches else _with_holdout(found.images)
    return replace(found, images=images, keeps=unpacked)


def _recognised(place: Path, source: Path) -> ModuleType:
    for module in FORMATS.values():
        if module.recognises(place):
            return module
    raise SourceError(
        f"{source}: is in none of the formats {', '.join(FORMATS)}; expected for example a folder with images and "
        "a labels.csv (columns path, label), or one folder for each class"
    )


def _only_folder(folder: Path) -> Path:
    """Archives often hold one folder with everything in it; one with nothing but images is a class."""
    entries = paths_in(folder, lambda name: not name.startswith((".", "__MACOSX")))
    if len(entries) != 1 or not entries[0].is_dir():
        return folder
    with os.scandir(entries[0]) as inside:
        images_only = all(is_image_name(entry.name) for entry in inside)
    return folder if images_only else entries[0]


def _with_holdout(images: Images) -> Images:
    return images.with_splits({"val": "holdout"}) if images.splits() == {"train", "val"} else images
