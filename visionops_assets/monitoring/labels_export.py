"""Wanted images as a folder for a labelling tool, which comes back as an ordinary batch.

```
images/<digest>.<format>
labels.csv, …       what is to be filled in or corrected, as `dataset/importing/label_files.py` writes it
wanted.csv          path, confidence, why, device, where the labels' own file has no place for them
```
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from edge.images.decode_pool import probe
from resources.artifact_store import ArtifactStore
from resources.escaping import cell
from resources.whole_outputs import require_new_folder, whole_folder
from visionops_assets.dataset.importing.label_files import ImageToLabel, label_formats, write_label_files
from visionops_assets.dataset.importing.source import Box
from visionops_assets.monitoring.labels_wanted import BY_LOT, WANTED_COLUMNS
from visionops_assets.monitoring.signals import LEAST_SCORE
from visionops_assets.monitoring.stored_days import needed_day, stored_day

_NOTES = ("confidence", "why", "device")


def wanted_days(
    artifacts: ArtifactStore, project: str, days: Iterable[date], task: str
) -> tuple[pd.DataFrame, dict[str, Sequence[Mapping[str, Any]]]]:
    """What is wanted of these days, each image once, the most wanted first; in detection the model's boxes by image."""
    tables: list[pd.DataFrame] = []
    boxes: dict[str, Sequence[Mapping[str, Any]]] = {}
    for day in days:
        wanted = stored_day(artifacts, project, "labels_wanted", day.isoformat())
        if wanted is None or wanted.empty:
            continue
        tables.append(wanted)
        if task == "detection":
            rows = needed_day(artifacts, project, "features", day.isoformat())
            boxes |= dict(zip(rows["image_sha256"], rows["boxes"], strict=True))
    if not tables:
        return pd.DataFrame(columns=list(WANTED_COLUMNS)), boxes
    found = pd.concat(tables).sort_values("worth", ascending=False, kind="stable")
    return found.drop_duplicates("image_sha256").reset_index(drop=True), boxes


class FolderNotEmpty(ValueError):
    """The folder to write to has something in it already."""


def export_images(
    folder: Path,
    wanted: pd.DataFrame,
    frames: Iterable[tuple[str, bytes]],
    *,
    task: str,
    classes: Sequence[str],
    boxes: Mapping[str, Sequence[Mapping[str, Any]]],
    format_: str = "",
    blind: bool = False,
) -> int:
    """Write the frames of wanted rows, (capture, bytes) each, and what is to be labelled; returns how many images.
    The folder is there whole or not at all.

    `boxes` are the model's, by image digest (detection); `format_` is one of `label_formats`, by default the first.
    The model's answers go along as a start, unless `blind`. Images that were drawn by lot never have them: they say
    how well the model does, and who is shown an answer agrees with it more often than who is not.
    Raises `FolderNotEmpty`: labels in it may be unfinished; `ValueError` for a format that the task has not.
    """
    format_ = format_ or next(iter(label_formats(task)))
    if format_ not in label_formats(task):
        raise ValueError(f"{format_} holds no labels of {task}: name one of {', '.join(label_formats(task))}")
    try:
        require_new_folder(folder)
    except FileExistsError as error:
        raise FolderNotEmpty(
            f"{folder} is not empty: name a new folder, labels in it might be lost"
        ) from error
    with whole_folder(folder) as made:
        (made / "images").mkdir()
        rows = {row["capture"]: row for row in wanted.to_dict("records")}
        written: list[ImageToLabel] = []
        for capture, content in frames:
            name, row = f"images/{PurePosixPath(capture).name}", rows[capture]
            (made / name).write_bytes(content)
            header, shown = probe(content, capture), not blind and row["why"] != BY_LOT
            confidence = row["confidence"] if shown and pd.notna(row["confidence"]) else None
            notes = {
                "confidence": "" if confidence is None else f"{confidence:.4f}",
                "why": row["why"],
                "device": row["device"] or "",
            }
            found = boxes.get(row["image_sha256"], ()) if shown and task == "detection" else ()
            written.append(
                ImageToLabel(
                    name,
                    header.width,
                    header.height,
                    label=row["prediction"] or None if shown else None,
                    boxes=[
                        _box(box, header.width, header.height)
                        for box in found
                        if box["class"] in classes and box["score"] >= LEAST_SCORE
                    ],
                    score=confidence,
                    notes=notes,
                )
            )
        write_label_files(made, written, classes, task=task, format_=format_)
        if format_ not in ("csv", "label-studio"):
            with (made / "wanted.csv").open("w", newline="", encoding="utf-8") as stream:
                table = csv.writer(stream)
                table.writerow(["path", *_NOTES])
                # Nobody reads it back; what comes back as a batch keeps its text.
                table.writerows(
                    [image.name, *(cell(image.notes[note]) for note in _NOTES)] for image in written
                )
        return len(written)


def _box(box: Mapping[str, Any], width: int, height: int) -> Box:
    """A model's box as far as it lies in the image, as who labels would draw it."""
    left, top = max(float(box["x"]), 0.0), max(float(box["y"]), 0.0)
    right = min(float(box["x"]) + float(box["w"]), width)
    bottom = min(float(box["y"]) + float(box["h"]), height)
    return {"x": left, "y": top, "w": right - left, "h": bottom - top, "label": box["class"]}
