"""What is known of images, drawn on them: answers of a model, and the findings of a batch as pages with pictures, a
folder that needs no server.
"""

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from edge.images.decode import decode_whole
from edge.images.header import UnreadableImage
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.safe_files import whole_folder
from visionops_assets.config.project import Project
from visionops_assets.dataset.dataset_task import truth_of
from visionops_assets.dataset.findings_file import BatchFindings
from visionops_assets.dataset.versions.annotations import read_annotations
from visionops_assets.dataset.versions.layout import annotations_path, batch_of, is_image
from visionops_assets.images.pictures import (
    ANSWER,
    Colour,
    Mark,
    encoded,
    kind_of,
    marked,
    viewing_scale,
    written_under,
)
from visionops_assets.pages.html_page import to_html
from visionops_assets.pages.page import Block, Card, Facts, Gallery, Link, Page, Paragraph, Table
from visionops_assets.tasks.task_registry import task

# Told apart by eye, also by most who see fewer colours (Okabe and Ito's, without black).
PALETTE: Sequence[Colour] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
# Above so many pixels a lossless file takes seconds and megabytes.
_LOSSLESS_PIXELS = 1 << 20
ON_A_PAGE = 100
PICTURES = "pictures"
COLOURS = "Green boxes are labels, red ones what is wrong with them, or what the champion sees instead."
_READ_AT_ONCE = 64


class Drawings:
    """Pictures in a new folder, one for each image that was answered. They are written to `made`, which becomes
    `folder` when it is whole."""

    def __init__(self, folder: Path, made: Path, classes: Sequence[str]) -> None:
        self._folder, self._made = folder, made
        self._colours = {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(classes)}
        self._taken: dict[str, int] = {}

    def draw(self, file: Path, data: bytes, told: Mapping[str, Any]) -> Path:
        """Draw one answer as `predict` gives it; where it will be."""
        pixels = decode_whole(data, str(file), 3)
        height, width = pixels.shape[:2]
        boxes = told.get("boxes")
        marks = [
            Mark(box, f"{box['label']} {box['score']:.2f}", self._colour(box["label"]))
            for box in reversed(boxes or ())
        ]
        # Enlarged where it is tiny, never reduced: what was found may be small.
        picture = marked(pixels, marks, max(1.0, viewing_scale(height, width)))
        return self._write(file, written_under(picture, [file.name, in_words(told)]))

    def _colour(self, label: str) -> Colour:
        return self._colours.get(label, PALETTE[zlib.crc32(label.encode()) % len(PALETTE)])

    def _write(self, file: Path, picture: Image.Image) -> Path:
        number = self._taken[file.stem] = self._taken.get(file.stem, 0) + 1
        name = file.stem if number == 1 else f"{file.stem} ({number})"
        if picture.width * picture.height > _LOSSLESS_PIXELS:
            picture.save(self._made / f"{name}.jpeg", "JPEG", quality=90)
            return self._folder / f"{name}.jpeg"
        content = encoded(picture)
        (self._made / f"{name}.{kind_of(content)}").write_bytes(content)
        return self._folder / f"{name}.{kind_of(content)}"


def in_words(told: Mapping[str, Any]) -> str:
    """An answer in one line."""
    if "boxes" in told:
        return ", ".join(f"{box['label']} {box['score']:.2f}" for box in told["boxes"]) or "nothing"
    return f"{told['prediction']} {told['confidence']:.2f}"


@dataclass(frozen=True)
class Labelled:
    """What an image is labelled, in words; `boxes` in detection."""

    label: str
    boxes: Sequence[Mapping[str, Any]] = ()


def write_findings_pages(
    lakefs: LakeFSResource,
    project: Project,
    found: BatchFindings,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Write `index.html`, the pages of each check, and the pictures. The folder is there whole or not at all.

    Raises FileExistsError for a folder that is not empty, and what lakeFS raises.
    """
    with whole_folder(folder) as made:
        (made / PICTURES).mkdir()
        labels = _labels(lakefs, project, found)
        pictures = _Pictures(lakefs, project.repository, found.commit.id, labels, made, progress)
        pictures.write(found.table)
        for name, page in _findings_pages(project, found, labels, pictures.written):
            (made / name).write_text(to_html(page), encoding="utf-8")


def _labels(lakefs: LakeFSResource, project: Project, found: BatchFindings) -> dict[str, Labelled]:
    """What the annotations say of every image that the findings name."""
    named = {path for name in ("image", "other") for path in found.table[name] if path and is_image(path)}
    labels: dict[str, Labelled] = {}
    for batch in sorted({batch_of(path) for path in named}):
        file = annotations_path(batch, project.annotations)
        try:
            table = read_annotations(lakefs.read(project.repository, found.commit.id, file), file)
        except LakeFSNotFound:
            continue
        truth, task = truth_of(table.column_names)
        for path, told in zip(table["path"].to_pylist(), table[truth].to_pylist(), strict=True):
            if path in named:
                labels[path] = Labelled(task.shown(told), task.boxes(told))
    return labels


class _Pictures:
    """The pictures that cards show: `written` has their file by image and box."""

    def __init__(
        self,
        lakefs: LakeFSResource,
        repository: str,
        commit: str,
        labels: Mapping[str, Labelled],
        folder: Path,
        progress: Callable[[int, int], None],
    ) -> None:
        self._lakefs, self._repository, self._commit = lakefs, repository, commit
        self._labels, self._folder, self._progress = labels, folder, progress
        self.written: dict[tuple[str, str], str] = {}

    def write(self, findings: pd.DataFrame) -> None:
        """One picture for each image and box that is found, and for what it is like."""
        wanted: dict[str, dict[str, Mark | None]] = {}
        for row in findings.to_dict("records"):
            for path, box in ((row["image"], row["box"]), (row["other"], None)):
                if path and is_image(path):
                    wanted.setdefault(path, {})[str(box)] = _suspected(row) if box else None
        paths = sorted(wanted)
        for start in range(0, len(paths), _READ_AT_ONCE):
            part = paths[start : start + _READ_AT_ONCE]
            for done, (path, data) in enumerate(
                self._lakefs.read_each(self._repository, self._commit, part), start + 1
            ):
                # What is no image, or was left out of the batch, has no picture; its card says what it is.
                if isinstance(data, bytes):
                    self._draw(path, data, wanted[path])
                self._progress(done, len(paths))

    def _draw(self, path: str, data: bytes, marks: Mapping[str, Mark | None]) -> None:
        try:
            pixels = decode_whole(data, path, 3)
        except UnreadableImage:
            return
        boxes = self._labels[path].boxes if path in self._labels else ()
        labelled = [Mark(box, str(box["label"])) for box in boxes]
        for box, mark in marks.items():
            picture = encoded(marked(pixels, [*labelled, mark] if mark else labelled))
            digest = hashlib.sha256(f"{path}\0{box}".encode(errors="surrogatepass")).hexdigest()
            name = f"{PICTURES}/{digest[:20]}.{kind_of(picture)}"
            (self._folder / name).write_bytes(picture)
            self.written[path, box] = name


def _suspected(row: Mapping[Any, Any]) -> Mark:
    return Mark(row["box"], f"{row['suspected'] or ''} {_sure(row)}".strip(), ANSWER)


def _sure(row: Mapping[Any, Any]) -> str:
    return "" if row["confidence"] is None else f"{row['confidence']:.2f}"


def _findings_pages(
    project: Project,
    found: BatchFindings,
    labels: Mapping[str, Labelled],
    pictures: Mapping[tuple[str, str], str],
) -> Iterator[tuple[str, Page]]:
    """Every page with the name of its file."""
    title = f"{project.project}: findings on {found.batch}"
    checks = [(check, rows) for check, rows in found.table.groupby("check", sort=False)]
    table = []
    for number, (check, rows) in enumerate(checks, 1):
        names = [
            f"{number:02d}-{re.sub('[^a-z0-9]+', '-', str(check).lower())}-{part}.html"
            for part in range(1, -(-len(rows) // ON_A_PAGE) + 1)
        ]
        errors = int((rows["severity"] == "ERROR").sum())
        table.append((Link(str(check), names[0]), f"{errors:,}", f"{len(rows) - errors:,}"))
        for part, name in enumerate(names):
            shown = rows.iloc[part * ON_A_PAGE : (part + 1) * ON_A_PAGE]
            first = part * ON_A_PAGE
            ways = [("all checks", Link("index", "index.html"))]
            ways += [("before", Link(f"page {part}", names[part - 1]))] if part else []
            ways += [("next", Link(f"page {part + 2}", names[part + 1]))] if part + 1 < len(names) else []
            ways += [("shown", Link(f"{first + 1:,} to {first + len(shown):,} of {len(rows):,}"))]
            blocks: tuple[Block, ...] = (
                Facts(tuple(ways)),
                *((Paragraph(COLOURS),) if task(project.task).sized else ()),
                Gallery(tuple(_finding_card(row, labels, pictures) for row in shown.to_dict("records"))),
            )
            yield name, Page(f"{title}: {check}", blocks)
    about = (
        ("project", project.project),
        ("batch", found.batch),
        ("outcome", found.outcome),
        ("commit", f"{project.repository}/{found.commit.id}"),
        ("findings", f"{len(found.table):,}"),
    )
    listed = Table(("check", "errors", "warnings"), tuple(table))
    nothing = Paragraph("The audit found nothing.")
    yield "index.html", Page(title, (Facts(about), listed if table else nothing))


def _finding_card(
    row: Mapping[Any, Any], labels: Mapping[str, Labelled], pictures: Mapping[tuple[str, str], str]
) -> Card:
    """What is known of a finding; the other image stands beside."""
    other = row["other"]
    suspected = f"{row['suspected']} ({_sure(row)})" if row["confidence"] is not None else row["suspected"]
    facts = (
        ("label", row["label"]),
        ("suspected", suspected),
        ("finding", f"{row['what']}; {row['why']}"),
        ("severity", row["severity"]),
        ("the other image", other),
        ("its label", labels[other].label if other in labels else None),
    )
    shown = [pictures.get((row["image"], str(row["box"]))), pictures.get((other, "None")) if other else None]
    return Card(
        str(row["image"]),
        tuple((name, str(value)) for name, value in facts if value is not None),
        tuple(source for source in shown if source),
    )
