"""Which captured images of a day are most worth a label, and those as a folder for a labelling tool.

What is wanted is pure, of one (model, device group). The folder comes back as an ordinary batch: ```
images/<digest>.<format> labels.csv, … what is to be filled in or corrected, as `dataset/label_files.py` writes it
wanted.csv path, confidence, why, device, where the labels' own file has no place for them ```
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.images.decode_pool import probe
from edge.images.header import Header
from resources.error_family import Invalid, Refused
from resources.escaping import cell
from resources.safe_files import require_new_folder, whole_folder
from resources.storage import ArtifactStore
from visionops_assets.dataset.importing.image_source import Box
from visionops_assets.dataset.importing.label_files import ImageToLabel, label_formats, write_label_files
from visionops_assets.monitoring.captures import in_sample
from visionops_assets.monitoring.monitoring_task import monitoring_task
from visionops_assets.monitoring.production_day import needed_day, stored_day
from visionops_assets.monitoring.signals import LEAST_SCORE, NO_BOX, EmbeddingReference, embeddings

# With their Arrow types.
WANTED_COLUMNS = {
    "image_sha256": "string",
    "capture": "string",
    "device": "string",
    "device_group": "string",
    "model_sha256": "string",
    "prediction": "string",
    "confidence": "double",
    "uncertainty": "double",
    "novelty": "double",
    "worth": "double",
    "why": "string",
}
BY_LOT = "by lot"
_MUCH = 0.8
_NOTES = ("confidence", "why", "device")


def labels_wanted(
    day: pd.DataFrame, reference: pd.DataFrame, task: str, count: int, share: float = 0.0
) -> pd.DataFrame:
    """At most `count` rows of the log with a capture and no label, the most wanted first; columns `WANTED_COLUMNS`.

    `worth` is the mean of two ranks among the day's candidates, 0 to 1: `uncertainty`, how little the model's first
    answer is ahead of its second (of a detector, how near its most doubtful box is to a score of one half), and
    `novelty`, the distance to the nearest image of the reference by embedding, in the reference's own deviations.
    What cannot be told ranks last. An image is asked for once. The classes that the model answers take turns, so
    that one class of doubtful images does not use up the day; those at a class's turn go by worth.

    Half of what is asked for, as far as there are, are images drawn by a `share` of all, in the order of
    `captures.label_sample`: only these tell how well a model does.
    """
    candidates = day[day["capture"].notna() & day["label"].isna()].drop_duplicates("image_sha256")
    if candidates.empty:
        return pd.DataFrame(columns=list(WANTED_COLUMNS))
    uncertainty = monitoring_task(task).doubt(candidates)
    found = candidates.assign(uncertainty=uncertainty, novelty=_novelty(candidates, reference))
    ranks = [found[name].rank(pct=True).fillna(0.0) for name in ("uncertainty", "novelty")]
    found = found.assign(worth=(ranks[0] + ranks[1]) / 2, why=_reasons(*ranks))
    found = found.sort_values(["worth", "image_sha256"], ascending=[False, True], kind="stable")
    lot = found[in_sample(found["image_sha256"], share)].sort_values("image_sha256").head(count // 2)
    others = found.drop(lot.index)
    turns = others.groupby(others["prediction"].fillna(NO_BOX), sort=False).cumcount()
    others = others.assign(turn=turns).sort_values(["turn", "worth"], ascending=[True, False], kind="stable")
    chosen = pd.concat([lot.assign(why=BY_LOT), others.head(count - len(lot))])
    return chosen.sort_values("worth", ascending=False, kind="stable")[list(WANTED_COLUMNS)].reset_index(
        drop=True
    )


def _novelty(candidates: pd.DataFrame, reference: pd.DataFrame) -> NDArray[np.float64]:
    found, known = np.full(len(candidates), np.nan), embeddings(reference)
    if len(known) < 2:
        return found
    vectors = [np.asarray([] if each is None else each, np.float64) for each in candidates["embedding"]]
    usable = [
        row for row, each in enumerate(vectors) if len(each) == known.shape[1] and np.isfinite(each).all()
    ]
    if usable:
        found[usable] = EmbeddingReference(known).nearest(np.stack([vectors[row] for row in usable]))
    return found


def _reasons(uncertainty: Sequence[float] | pd.Series, novelty: Sequence[float] | pd.Series) -> list[Any]:
    names = {(True, True): "uncertain and novel", (True, False): "uncertain", (False, True): "novel"}
    return [
        names.get((doubt >= _MUCH, new >= _MUCH), "class quota")
        for doubt, new in zip(uncertainty, novelty, strict=True)
    ]


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
        if "boxes" in monitoring_task(task).beside:
            rows = needed_day(artifacts, project, "features", day.isoformat())
            boxes |= dict(zip(rows["image_sha256"], rows["boxes"], strict=True))
    if not tables:
        return pd.DataFrame(columns=list(WANTED_COLUMNS)), boxes
    found = pd.concat(tables).sort_values("worth", ascending=False, kind="stable")
    return found.drop_duplicates("image_sha256").reset_index(drop=True), boxes


class FolderNotEmpty(Refused, ValueError):
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
        raise Invalid(f"{format_} holds no labels of {task}: name one of {', '.join(label_formats(task))}")
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
            shown = not blind and row["why"] != BY_LOT
            found = boxes.get(row["image_sha256"], ()) if shown else ()
            known = [box for box in found if box["class"] in classes and box["score"] >= LEAST_SCORE]
            written.append(_image_to_label(name, probe(content, capture), row, known, shown=shown))
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


def _image_to_label(
    name: str, header: Header, row: Mapping[Any, Any], boxes: Sequence[Mapping[str, Any]], *, shown: bool
) -> ImageToLabel:
    """A wanted row as who labels gets it; the model's answer goes along where it is `shown`."""
    confidence = row["confidence"] if shown and pd.notna(row["confidence"]) else None
    return ImageToLabel(
        name,
        header.width,
        header.height,
        label=row["prediction"] or None if shown else None,
        boxes=[_box_to_draw(box, header.width, header.height) for box in boxes],
        score=confidence,
        notes={
            "confidence": "" if confidence is None else f"{confidence:.4f}",
            "why": row["why"],
            "device": row["device"] or "",
        },
    )


def _box_to_draw(box: Mapping[str, Any], width: int, height: int) -> Box:
    """A model's box as far as it lies in the image, as who labels would draw it."""
    left, top = max(float(box["x"]), 0.0), max(float(box["y"]), 0.0)
    right = min(float(box["x"]) + float(box["w"]), width)
    bottom = min(float(box["y"]) + float(box["h"]), height)
    return {"x": left, "y": top, "w": right - left, "h": bottom - top, "label": box["class"]}
