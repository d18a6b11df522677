"""Batches as they lie in lakeFS (`layout.py`) and in an exported DVC folder: one of them, or several side by side.

A batch is a folder with `images/` and one table of annotations (`annotations.py`) under `annotations/`. Of one batch
an image keeps its name; of several, it gets that of its batch in front.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from visionops_assets.dataset.importing.columns import Images
from visionops_assets.dataset.importing.formats import tables
from visionops_assets.dataset.importing.gathering import joined
from visionops_assets.dataset.importing.source import Folder, Source, SourceError

NAME = "batches"


def recognises(source: Path) -> bool:
    """Whether the source is a batch, or a folder of batches."""
    return bool(_batches(source))


def read(source: Path) -> Source:
    """Every image with its annotations. Raises `SourceError` naming a batch whose annotations are not one table."""
    batches = _batches(source)
    images: list[Images] = []
    findings = []
    for batch in batches:
        before = "" if batch == source else f"{batch.name}/"
        found = tables.read_table(_table(batch), batch / "images")
        images.append(replace(found.images, name=_behind(before, found.images.name)))
        findings.append(found.findings.assign(image=[before + name for name in found.findings["image"]]))
    opened = Folder(str(source / "images")) if batches == [source] else _of_batches(source)
    return Source(NAME, joined(opened, images).by_name(), pd.concat(findings, ignore_index=True))


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
