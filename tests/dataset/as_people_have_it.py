"""Small sources as people have them, and what is to come of each."""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.dataset.store import Repository
from visionops_assets.common.findings import findings_in_words
from visionops_assets.dataset.batch_plan import BatchPlan
from visionops_assets.dataset.importing.class_names import class_names
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import NOTHING_STATED, Stated

PREFIX = "batches/b/images/"
Boxes = Sequence[tuple[Any, ...]]
BOX = ("bolt", 2, 3, 10, 8)


@dataclass
class Files:
    """A folder that is filled with images like no other and with texts."""

    root: Path
    drawn: int = 0

    def picture(self, width: int = 32, height: int = 24) -> Image.Image:
        """A smooth image, another one each time."""
        self.drawn += 1
        seed = sum(map(ord, self.root.name)) * 1000 + self.drawn
        small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
        return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)

    def image(self, name: str, width: int = 32, height: int = 24, orientation: int = 1) -> None:
        """Draw an image of this size as shown; with an orientation it is stored turned."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture, more = self.picture(width, height), {}
        if orientation == 6:
            picture, exif = picture.transpose(Image.Transpose.ROTATE_90), Image.Exif()
            exif[0x0112] = orientation
            more = {"exif": exif}
        kinds = {
            "jpg": "JPEG",
            "jpeg": "JPEG",
            "jfif": "JPEG",
            "pjpeg": "JPEG",
            "jp2": "JPEG2000",
            "avif": "AVIF",
        }
        picture.save(path, kinds.get(path.suffix.lower().lstrip("."), "PNG"), **more)

    def images(self, *names: str, width: int = 32, height: int = 24) -> None:
        for name in names:
            self.image(name, width, height)

    def classes(self, *folders: str, each: int = 3) -> None:
        for folder in folders:
            self.images(*(f"{folder}/{number}.png" for number in range(each)))

    def text(self, name: str, text: str | bytes, encoding: str = "utf-8") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))

    def json(self, name: str, content: Any, encoding: str = "utf-8") -> None:
        self.text(name, json.dumps(content), encoding)

    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.picture().save(buffer, "PNG")
        return buffer.getvalue()


@dataclass(frozen=True)
class Comes:
    """What comes of a source: images with their label or boxes, their splits where these came with it, what is told,
    as the severity and a pattern, or the pattern of the one line that refuses it."""

    truth: Mapping[str, str | Boxes] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    told: Sequence[tuple[str, str]] = ()
    refused: str = ""


Case = Callable[[Files], Comes]


def plan_of(source: Path, stated: Stated = NOTHING_STATED, repository: Repository | None = None) -> BatchPlan:
    """The plan of a source whose classes are those that it has."""
    classes = tuple(sorted(class_names(read_source(source, stated).images))) or ("a", "b")
    return (repository or Repository(classes)).plan(source, "b", stated=stated)


def check_said(text: str) -> None:
    """That a message is one that people read: short, and of ours."""
    assert len(text.splitlines()) <= 24 and len(text) <= 4000, text
    assert not re.search(r"\w+Error\b|Traceback|object at 0x", text), text


def check_case(case: Callable[[Files], Comes], folder: Path) -> None:
    """Holds that what a case draws into a new folder comes as it says, or is refused in these words."""
    files = Files(folder)
    files.root.mkdir()
    comes = case(files)
    if comes.refused:
        with pytest.raises(SourceError, match=comes.refused) as caught:
            read_source(files.root)
        check_said(str(caught.value))
    else:
        check(plan_of(files.root), comes)


def check(plan: BatchPlan, comes: Comes) -> None:
    """That a plan is what was to come of its source, and that nothing is lost."""
    rows = {row["path"].removeprefix(PREFIX): row for row in plan.annotations.to_pylist()}
    truth = {name: truth_of(row) for name, row in rows.items()}
    assert truth == {
        name: one if isinstance(one, str) else [rounded(box) for box in one]
        for name, one in comes.truth.items()
    }, plan.findings.to_string()
    for name, split in comes.splits.items():
        assert rows[name]["split"] == split, name
    told = [
        (row.severity, f"{row.check}: {row.image} {row.what}; {row.why}")
        for row in plan.findings.itertuples()
    ]
    for severity, pattern in comes.told:
        assert any(severity == one and re.search(pattern, text) for one, text in told), (pattern, told)
    errors = [text for severity, text in told if severity == "ERROR"]
    assert bool(errors) == any(severity == "ERROR" for severity, _ in comes.told), errors
    assert plan.sums.add_up(), plan.sums.as_dict()
    check_said(findings_in_words(plan.findings, lines=16) + plan.sums.in_words())


def truth_of(row: Mapping[str, Any]) -> Any:
    """The label of a row, or its boxes as (label, x, y, w, h)."""
    if "label" in row:
        return row["label"]
    return [rounded((box["label"], *(box[side] for side in "xywh"))) for box in row["boxes"]]


def rounded(box: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(one if isinstance(one, str) else round(float(one), 3) for one in box)


def coco(
    images: Sequence[tuple[Any, ...]],
    boxes: Sequence[tuple[Any, Any, Sequence[float]]],
    categories: Sequence[tuple[Any, str]] = ((1, "bolt"), (2, "nut")),
) -> dict[str, Any]:
    """COCO of (id, file name, width, height), (image, category, box) and (id, name)."""
    return {
        "images": [dict(zip(("id", "file_name", "width", "height"), one, strict=False)) for one in images],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": list(box), "iscrowd": 0}
            for number, (image, category, box) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": key, "name": name} for key, name in categories],
    }


def voc(
    file_name: str, *objects: tuple[str, float, float, float, float], size: tuple[int, int] | None = None
) -> str:
    """An XML file of VOC with (name, xmin, ymin, xmax, ymax)."""
    shown = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for name, a, b, c, d in objects
    )
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation><folder>f</folder><filename>{file_name}</filename>{stated}{shown}</annotation>"
