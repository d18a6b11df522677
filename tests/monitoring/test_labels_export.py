"""Wanted images go out to a labelling tool and come back as an ordinary batch."""

import io
import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resources.artifact_store import ArtifactStore
from visionops_assets.addresses import asset_key
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.monitoring.labels_export import FolderNotEmpty, export_images, wanted_days
from visionops_assets.monitoring.labels_wanted import WANTED_COLUMNS
from visionops_assets.monitoring.stored_days import typed
from visionops_assets.tables import write_table

CLASSES = ("bolt", "nut")
DAY = date(2026, 6, 10)


def wanted(count: int = 3) -> tuple[pd.DataFrame, list[tuple[str, bytes]]]:
    """Rows of the asset, and the frames that they name."""
    rows, frames = [], []
    for number in range(count):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 255, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        digest = f"{number:064x}"
        frames.append((f"captures/dt={DAY}/{digest}.png", buffer.getvalue()))
        rows.append(
            {
                **dict.fromkeys(WANTED_COLUMNS),
                "image_sha256": digest,
                "capture": frames[-1][0],
                "device": "camera-1",
                "prediction": "nut",
                "confidence": 0.5,
                "worth": 1 - number / 10,
                "why": "uncertain",
            }
        )
    return pd.DataFrame(rows), frames


def test_a_filled_in_csv_is_a_batch(tmp_path: Path):
    rows, frames = wanted()
    assert (
        export_images(tmp_path / "out", rows, frames, task="classification", classes=CLASSES, boxes={}) == 3
    )
    table = tmp_path / "out" / "labels.csv"
    lines = table.read_text().splitlines()
    assert lines[0] == "path,label,suggestion,confidence,why,device"
    table.write_text("\n".join(line.replace("png,,", "png,bolt,") for line in lines))
    source = read_source(tmp_path / "out")
    assert [image.label for image in source.images] == ["bolt"] * 3
    assert source.findings.empty


def test_a_detectors_boxes_go_out_as_a_start_and_come_back_as_a_batch(tmp_path: Path):
    rows, frames = wanted()
    box = {"x": 2.0, "y": 3.0, "w": 10.0, "h": 8.0, "class": "nut", "score": 0.4}
    boxes = {rows["image_sha256"][0]: [box, {**box, "class": "of another project"}]}
    export_images(tmp_path, rows, frames, task="detection", classes=CLASSES, boxes=boxes)
    coco = json.loads((tmp_path / "annotations.json").read_text())
    assert [(each["bbox"], each["category_id"]) for each in coco["annotations"]] == [
        ([2.0, 3.0, 10.0, 8.0], 1)
    ]
    source = read_source(tmp_path)
    assert len(source.images) == 3
    assert [len(image.boxes or ()) for image in source.images] == [1, 0, 0]


def test_days_are_put_together_each_image_once(tmp_path: Path):
    store, (rows, _) = ArtifactStore(root=str(tmp_path)), wanted()
    for day in ("2026-06-09", "2026-06-10"):
        store.write_json(
            asset_key("parts", "labels_wanted", day), write_table(store, typed(rows, WANTED_COLUMNS))
        )
    found, boxes = wanted_days(store, "parts", [date(2026, 6, 8), date(2026, 6, 9), DAY], "classification")
    assert found["image_sha256"].tolist() == rows["image_sha256"].tolist()
    assert boxes == {}
    assert wanted_days(store, "parts", [date(2026, 6, 8)], "classification")[0].empty


def test_a_folder_with_labels_in_it_is_not_written_over(tmp_path: Path):
    rows, frames = wanted()
    (tmp_path / "labels.csv").write_text("mine")
    with pytest.raises(FolderNotEmpty, match="is not empty: name a new folder"):
        export_images(tmp_path, rows, frames, task="classification", classes=CLASSES, boxes={})
