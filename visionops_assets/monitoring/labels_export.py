"""Wanted images as a folder for a labelling tool, which comes back as an ordinary batch.

```
images/<digest>.<format>
labels.csv          classification: path, label (empty, to be filled in), suggestion, confidence, why, device
annotations.json    detection: COCO, with the model's own boxes as a start to be corrected
wanted.csv          detection: path, confidence, why, device
```
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from resources.artifact_store import ArtifactStore
from visionops_assets.dataset.image_header import probe
from visionops_assets.monitoring.labels_wanted import WANTED_COLUMNS
from visionops_assets.monitoring.stored_days import needed_day, stored_day


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
) -> int:
    """Write the frames of wanted rows, (capture, bytes) each, and what is to be labelled; returns how many images.

    `boxes` are the model's, by image digest (detection). Raises `FolderNotEmpty`: labels in it may be unfinished.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FolderNotEmpty(f"{folder} is not empty: name a new folder, labels in it might be lost")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = {row["capture"]: row for row in wanted.to_dict("records")}
    written: list[tuple[str, dict[Any, Any], tuple[int, int]]] = []
    for capture, content in frames:
        name = f"images/{PurePosixPath(capture).name}"
        (folder / name).write_bytes(content)
        header = probe(content, capture)
        written.append((name, rows[capture], (header.width, header.height)))
    if task == "detection":
        coco = json.dumps(_coco(written, classes, boxes), ensure_ascii=False, indent=1)
        (folder / "annotations.json").write_text(coco)
        _write_csv(folder / "wanted.csv", written, with_label=False)
    else:
        _write_csv(folder / "labels.csv", written, with_label=True)
    return len(written)


def _write_csv(file: Path, written: Sequence[tuple[str, dict[Any, Any], Any]], *, with_label: bool) -> None:
    asked = ["label", "suggestion"] if with_label else []
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", *asked, "confidence", "why", "device"])
        for name, row, _ in written:
            answers = ["", row["prediction"] or ""] if with_label else []
            confidence = f"{row['confidence']:.4f}" if pd.notna(row["confidence"]) else ""
            table.writerow([name, *answers, confidence, row["why"], row["device"]])


def _coco(
    written: Sequence[tuple[str, dict[Any, Any], tuple[int, int]]],
    classes: Sequence[str],
    boxes: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    numbers = {name: number for number, name in enumerate(classes)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, row, (width, height)) in enumerate(written):
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for box in boxes.get(row["image_sha256"], ()):
            if box["class"] in numbers:
                sides = [float(box[side]) for side in ("x", "y", "w", "h")]
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": number,
                        "category_id": numbers[box["class"]],
                        "bbox": sides,
                        "area": sides[2] * sides[3],
                        "score": float(box["score"]),
                        "iscrowd": 0,
                    }
                )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
