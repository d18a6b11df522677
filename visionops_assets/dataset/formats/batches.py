"""Batches as they lie in lakeFS (`layout.py`) and in an exported DVC folder: one of them, or several side by side.

A batch is a folder with `images/` and one table of annotations (`annotations.py`) under `annotations/`. Of one batch
an image keeps its name; of several, it gets that of its batch in front.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from visionops_assets.dataset.formats import tables
from visionops_assets.dataset.formats.source import Source, SourceError, SourceImage

NAME = "batches"


def recognises(source: Path) -> bool:
    """Whether the source is a batch, or a folder of batches."""
    return bool(_batches(source))


def read(source: Path) -> Source:
    """Every image with its annotations. Raises `SourceError` naming a batch whose annotations are not one table."""
    images: list[SourceImage] = []
    findings = []
    for batch in _batches(source):
        before = "" if batch == source else f"{batch.name}/"
        found = tables.read_table(_table(batch), batch / "images")
        images += [replace(image, name=before + image.name) for image in found.images]
        findings.append(found.findings.assign(image=[before + name for name in found.findings["image"]]))
    return Source(NAME, sorted(images, key=lambda image: image.name), pd.concat(findings, ignore_index=True))


def _batches(source: Path) -> list[Path]:
    if not source.is_dir():
        return []
    candidates = [source, *sorted(path for path in source.iterdir() if path.is_dir())]
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
