"""Wanted images go out to a labelling tool and come back as an ordinary batch."""

import hashlib
import io
import json
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resources.storage import ArtifactStore
from visionops_assets.common.keys import asset_key
from visionops_assets.common.tables import write_table
from visionops_assets.dataset.batch_plan import BatchPlan, BatchRules, OnMain, plan_batch
from visionops_assets.dataset.importing.first_look import first_look
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.label_files import label_formats
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import NOTHING_STATED, Stated
from visionops_assets.dataset.versions.manifest import Manifest, read_manifest
from visionops_assets.monitoring.labels_wanted import (
    WANTED_COLUMNS,
    FolderNotEmpty,
    export_images,
    wanted_days,
)
from visionops_assets.monitoring.production_day import typed_table

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


def test_what_a_detector_hardly_says_is_no_start_and_boxes_end_with_the_image(tmp_path: Path):
    rows, frames = wanted()
    box = {"x": -2.0, "y": 3.0, "w": 10.0, "h": 800.0, "class": "nut", "score": 0.4}
    boxes = {rows["image_sha256"][0]: [box, {**box, "score": 0.1}]}
    export_images(tmp_path / "out", rows, frames, task="detection", classes=CLASSES, boxes=boxes)
    source = read_source(tmp_path / "out")
    (found,) = [image for image in source.images if image.boxes]
    (kept,) = found.boxes or ()
    height = json.loads((tmp_path / "out" / "annotations.json").read_text())["images"][0]["height"]
    assert [kept["x"], kept["y"], kept["w"], kept["h"]] == [0.0, 3.0, 8.0, height - 3.0]


def test_label_studio_finds_the_images_in_the_folder_that_was_asked_for(tmp_path: Path):
    rows, frames = wanted()
    folder = tmp_path / "for label studio"
    export_images(folder, rows, frames, task="detection", classes=CLASSES, boxes={}, format_="label-studio")
    for task in json.loads((folder / "tasks.json").read_text()):
        address = unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
        assert (tmp_path / address).is_file(), address


def test_days_are_put_together_each_image_once(tmp_path: Path):
    store, (rows, _) = ArtifactStore(root=str(tmp_path)), wanted()
    for day in ("2026-06-09", "2026-06-10"):
        store.write_json(
            asset_key("parts", "labels_wanted", day), write_table(store, typed_table(rows, WANTED_COLUMNS))
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


@pytest.mark.parametrize("format_", ["coco", "yolo", "voc", "csv", "label-studio", "cvat"])
def test_boxes_come_back_from_each_format_as_they_went_out(tmp_path: Path, format_: str):
    rows, frames = wanted()
    drawn = [
        {"x": 2.25, "y": 3.1, "w": 10.7, "h": 8.3, "class": "nut", "score": 0.4},
        {"x": 0.0, "y": 0.0, "w": 30.0, "h": 20.0, "class": "bolt", "score": 0.9},
    ]
    boxes = {rows["image_sha256"][0]: drawn, rows["image_sha256"][2]: drawn[:1]}
    folder = tmp_path / "out"
    export_images(folder, rows, frames, task="detection", classes=CLASSES, boxes=boxes, format_=format_)
    if format_ == "label-studio":
        labelled_in_label_studio(folder)
    found = imported(folder, ArtifactStore(root=str(tmp_path / "store")))
    assert {row["sha256"] for row in found.values()} == {
        hashlib.sha256(content).hexdigest() for _, content in frames
    }
    sides = 1.0 if format_ == "voc" else 1e-4
    for digest in rows["image_sha256"]:
        came, went = found[digest]["boxes"] or (), boxes.get(digest, [])
        assert [box["label"] for box in came] == [box["class"] for box in went]
        for one, other in zip(came, went, strict=True):
            assert [one[side] for side in "xywh"] == pytest.approx(
                [other[side] for side in "xywh"], abs=sides
            )


@pytest.mark.parametrize("format_", ["label-studio", "cvat"])
def test_classes_come_back_from_each_format_as_they_went_out(tmp_path: Path, format_: str):
    rows, frames = wanted()
    folder = tmp_path / "out"
    export_images(folder, rows, frames, task="classification", classes=CLASSES, boxes={}, format_=format_)
    if format_ == "label-studio":
        labelled_in_label_studio(folder)
    assert [
        row["label"] for row in imported(folder, ArtifactStore(root=str(tmp_path / "store"))).values()
    ] == ["nut"] * 3


def planned(folder: Path, store: ArtifactStore, stated: Stated = NOTHING_STATED) -> BatchPlan:
    nothing, shares = read_manifest(Manifest(()), store), {"train": 0.5, "holdout": 0.5}
    return plan_batch(
        folder, "asked-for", BatchRules(CLASSES, "parts", shares, ""), OnMain(nothing), stated=stated
    )


def imported(folder: Path, store: ArtifactStore) -> dict[str, dict[str, Any]]:
    """The annotations that an import would publish, by the name of the image without folder and suffix."""
    plan = planned(folder, store)
    assert plan.ok, plan.findings.to_string()
    return {Path(row["path"]).stem: row for row in plan.annotations.to_pylist()}


@pytest.mark.parametrize("leave_out_errors", [False, True])
@pytest.mark.parametrize(
    ("task", "format_"),
    [(task, format_) for task in ("classification", "detection") for format_ in label_formats(task)],
)
def test_what_comes_back_as_it_went_out_is_no_batch(
    tmp_path: Path, task: str, format_: str, leave_out_errors: bool
):
    rows, frames = wanted()
    folder, store = tmp_path / "out", ArtifactStore(root=str(tmp_path / "store"))
    export_images(folder, rows, frames, task=task, classes=CLASSES, boxes={}, format_=format_, blind=True)
    assert not planned(folder, store, Stated(leave_out_errors=leave_out_errors)).ok
    with pytest.raises(SourceError):
        first_look(read_source(folder))


@pytest.mark.parametrize("format_", label_formats("detection"))
def test_scenes_that_are_empty_come_back_where_somebody_says_so(tmp_path: Path, format_: str):
    rows, frames = wanted()
    folder, store = tmp_path / "out", ArtifactStore(root=str(tmp_path / "store"))
    export_images(
        folder, rows, frames, task="detection", classes=CLASSES, boxes={}, format_=format_, blind=True
    )
    error, *_ = planned(folder, store).findings.query("severity == 'ERROR'").itertuples()
    assert error.image == "the source" and "--unlabelled background" in str(error.why)
    plan = planned(folder, store, Stated(unlabelled="background"))
    assert plan.ok, plan.findings.to_string()
    assert plan.annotations["boxes"].to_pylist() == [[]] * 3
    assert not planned(folder, store, Stated(unlabelled="leave-out")).ok


def labelled_in_label_studio(folder: Path) -> None:
    """What Label Studio exports once somebody accepted every prediction."""
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks, start=1):
        accepted = task.pop("predictions", [{"result": []}])
        task |= {
            "id": number,
            "annotations": [{"id": number, "result": accepted[0]["result"]}],
            "predictions": [],
        }
    (folder / "tasks.json").write_text(json.dumps(tasks))


@pytest.mark.parametrize("format_", ["coco", "yolo", "voc", "csv", "label-studio", "cvat"])
def test_no_answer_of_the_model_is_in_what_is_labelled_blind_or_was_drawn_by_lot(
    tmp_path: Path, format_: str
):
    rows, frames = wanted()
    rows = rows.assign(prediction="of-the-model", confidence=0.4321)
    box = {"x": 2.0, "y": 3.0, "w": 10.0, "h": 8.0, "class": "of-the-model", "score": 0.4321}
    boxes = {key: [box] for key in rows["image_sha256"]}
    classes = ("of-the-model",)

    def told(folder: Path) -> int:
        files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png")
        text = "".join(path.read_text() for path in files)
        return text.count("0.4321") + text.count("10.0") + text.count(">11<") + text.count("33.3")

    for name, table, blind in (
        ("open", rows, False),
        ("blind", rows, True),
        ("by-lot", rows.assign(why="by lot"), False),
    ):
        export_images(
            tmp_path / name,
            table,
            frames,
            task="detection",
            classes=classes,
            boxes=boxes,
            format_=format_,
            blind=blind,
        )
    assert told(tmp_path / "open") > 0
    assert told(tmp_path / "blind") == told(tmp_path / "by-lot") == 0


def test_a_format_without_labels_of_the_task_is_refused_before_anything_is_written(tmp_path: Path):
    rows, frames = wanted()
    with pytest.raises(ValueError, match="yolo holds no labels of classification: name one of csv, "):
        export_images(
            tmp_path / "out",
            rows,
            frames,
            task="classification",
            classes=CLASSES,
            boxes={},
            format_="yolo",
        )
    assert not (tmp_path / "out").exists()
