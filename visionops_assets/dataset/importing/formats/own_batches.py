"""Batches as they lie in lakeFS (`layout.py`) and in an exported DVC folder: one of them, or several side by side.

A batch is a folder with `images/` and one table of annotations (`annotations.py`) under `annotations/`. Of one batch
an image keeps its name; of several, it gets that of its batch in front.
"""

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from visionops_assets.dataset.importing.file_listing import Listing, list_files
from visionops_assets.dataset.importing.formats.labels_table import read_table
from visionops_assets.dataset.importing.image_columns import Gathering, Images, joined_images
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.resolving import resolved
from visionops_assets.dataset.importing.source_files import Folder, SourceFile
from visionops_assets.dataset.importing.statements import Made, Stated

NAME = "batches"


def recognises(listing: Listing) -> str | None:
    """Whether the source is a batch, or a folder of batches."""
    found = _batches(listing)
    if not found:
        return None
    return f"{next(iter(found)) or listing.root.name}/ has images/ and annotations/*.parquet"


def read(listing: Listing, stated: Stated) -> Made:
    """Every image with its annotations. Raises `SourceError` naming a batch whose annotations are not one table."""
    source, batches = listing.folder, _batches(listing)
    images: list[Images] = []
    made = Made(Gathering(source).images())
    for batch, tables in batches.items():
        before = f"{batch}/" if batch else ""
        inside = list_files(source.within(f"{before}images"))
        table = _table(listing, batch, tables)
        found = resolved(read_table(table, stated), inside, inside.folder, stated)
        images.append(replace(found.images, name=_behind(before, found.images.name)))
        made.findings += [
            one._replace(image=before + one.image) for one in found.findings + inside.link_findings()
        ]
        made.read.add(table.path)
        made.left_out += found.images_left_out
        made.annotations += found.annotations
        made.annotations_left_out += found.annotations_left_out
    opened = source.within("images") if "" in batches else _of_batches(source)
    made.images = joined_images(opened, images).by_name()
    return made


def _behind(before: str, names: pa.Array) -> pa.Array:
    prefix = pa.scalar(before.encode("utf-8", "surrogatepass"), pa.binary())
    return pc.binary_join_element_wise(prefix, names, b"") if before else names


def _of_batches(source: Folder) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        batch, _, image = name.partition("/")
        return source(f"{batch}/images/{image}")

    return read


def _batches(listing: Listing) -> dict[str, list[str]]:
    """The tables of annotations of each batch, by its folder: the source itself, or those in it."""
    tables: dict[str, list[str]] = {}
    for name in listing.ending(".parquet"):
        batch, _, folder = name.rpartition("/")[0].rpartition("/")
        if folder == "annotations" and "/" not in batch:
            tables.setdefault(batch, []).append(name)
    with_images = set[str]()
    # Most sources have no such table: their images are not looked through.
    for name in listing.images if tables else ():
        first, _, rest = name.partition("/")
        if first == "images" and rest:
            with_images.add("")
        if rest.startswith("images/"):
            with_images.add(first)
    found = {batch: tables[batch] for batch in sorted(tables) if batch in with_images}
    return {"": found[""]} if "" in found else found


def _table(listing: Listing, batch: str, tables: list[str]) -> SourceFile:
    if len(tables) > 1:
        names = ", ".join(name.rpartition("/")[2] for name in tables)
        raise SourceError(
            f"{listing.root / batch}: has several tables of annotations ({names}): keep the one that is meant"
        )
    return listing.file(tables[0])
