"""Batches as they lie in lakeFS (`layout.py`) and in an exported DVC folder: one of them, or several side by side.

A batch is a folder with `images/` and one table of annotations (`annotations.py`) under `annotations/`. Of one batch
an image keeps its name; of several, it gets that of its batch in front.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from visionops_assets.dataset.importing.columns import Images
from visionops_assets.dataset.importing.formats.tables import read_table
from visionops_assets.dataset.importing.gathering import Gathering, joined
from visionops_assets.dataset.importing.listing import Listing, list_files
from visionops_assets.dataset.importing.options import Stated
from visionops_assets.dataset.importing.resolving import resolved
from visionops_assets.dataset.importing.said import Made
from visionops_assets.dataset.importing.source import Folder, SourceError

NAME = "batches"


def recognises(listing: Listing) -> str | None:
    """Whether the source is a batch, or a folder of batches."""
    found = _batches(listing.root)
    return f"{found[0].name}/ has images/ and annotations/*.parquet" if found else None


def read(listing: Listing, stated: Stated) -> Made:
    """Every image with its annotations. Raises `SourceError` naming a batch whose annotations are not one table."""
    source = listing.root
    batches = _batches(source)
    images: list[Images] = []
    made = Made(Gathering(Folder(str(source))).images())
    for batch in batches:
        before = "" if batch == source else f"{batch.name}/"
        inside = list_files(batch / "images", stated.follow_links)
        table = _table(batch)
        found = resolved(read_table(table, stated), inside, Folder(str(batch / "images")), stated)
        images.append(replace(found.images, name=_behind(before, found.images.name)))
        made.findings += [
            one._replace(image=before + one.image) for one in found.findings + inside.link_findings()
        ]
        made.read.add(table.relative_to(source).as_posix())
        made.left_out += found.images_left_out
        made.annotations += found.annotations
        made.annotations_left_out += found.annotations_left_out
    opened = Folder(str(source / "images")) if batches == [source] else _of_batches(source)
    made.images = joined(opened, images).by_name()
    return made


def _behind(before: str, names: pa.Array) -> pa.Array:
    prefix = pa.scalar(before.encode("utf-8", "surrogatepass"), pa.binary())
    return pc.binary_join_element_wise(prefix, names, b"") if before else names


def _of_batches(source: Path) -> Callable[[str], bytes]:
    inside = Folder(str(source))

    def read(name: str) -> bytes:
        batch, _, image = name.partition("/")
        return inside(f"{batch}/images/{image}")

    return read


def _batches(source: Path) -> list[Path]:
    if not source.is_dir():
        return []
    with os.scandir(source) as entries:
        folders = sorted(source / entry.name for entry in entries if entry.is_dir())
    candidates = [source, *folders]
    found = [path for path in candidates if (path / "images").is_dir() and _tables(path)]
    return [source] if source in found else found


def _tables(batch: Path) -> list[Path]:
    return sorted((batch / "annotations").glob("*.parquet"))


def _table(batch: Path) -> Path:
    found = _tables(batch)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SourceError(f"{batch}: has several tables of annotations ({names}): keep the one that is meant")
    return found[0]
