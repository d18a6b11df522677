"""A dataset version as tables and pictures for the UI."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import numpy as np
import pandas as pd

from edge.images.decode import Pixels, decode_whole
from edge.images.header import UnreadableImage
from resources.lakefs.client import LakeFSResource
from visionops_assets.config.project import Project
from visionops_assets.dataset.dataset_task import truth_of
from visionops_assets.dataset.findings_file import with_all_columns
from visionops_assets.dataset.versions.annotations import SPLITS
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.dataset.versions.layout import is_image
from visionops_assets.dataset.versions.manifest_diff import labels_of
from visionops_assets.images.pictures import (
    ANSWER,
    THUMBNAIL,
    TRUTH,
    Captioned,
    Colour,
    Mark,
    marked,
    thumbnails_markdown,
)


def class_table(used: pd.DataFrame) -> pd.DataFrame:
    """Samples by class (rows) and split (columns), with totals; in detection, images with boxes of the class."""
    labels = labels_of(used)
    splits = used["split"].iloc[labels.index].to_numpy()
    counts = pd.crosstab(labels.to_numpy(), splits).reindex(columns=list(SPLITS), fill_value=0)
    counts["all"] = counts.sum(axis=1)
    counts.loc["all classes"] = counts.sum()
    return counts.rename_axis(index="class", columns=None).reset_index()


def sample_pictures(lakefs: LakeFSResource, project: Project, version: DatasetVersion, count: int) -> str:
    """Thumbnails of a few samples with their labels as Markdown, one class after the other."""
    # In detection an image stands for the first class it has boxes of.
    first = labels_of(version.used).groupby(level=0).first()
    place_in_class = first.groupby(first).cumcount()
    chosen = place_in_class.sort_values(kind="stable").index[:count]
    rows = {row["path"]: row for row in version.used.iloc[chosen].to_dict("records")}
    column, task = truth_of(version.samples.columns)
    pictures = []
    for path, pixels in _pixels(lakefs, project, version.commit.id, list(rows)):
        truth = rows[path][column]
        pictures.append(Captioned(_thumbnail(pixels, task.boxes(truth)), task.shown(truth)))
    return thumbnails_markdown(pictures)


def finding_pictures(
    lakefs: LakeFSResource, project: Project, reference: str, findings: pd.DataFrame, count: int = 8
) -> str:
    """Thumbnails of the first images that were found and can be shown, with their labels and what is suspected, as
    Markdown; empty where there are none."""
    shown = with_all_columns(
        findings[findings["image"].map(is_image)].drop_duplicates("image").head(2 * count)
    )
    rows = {row["image"]: row for row in shown.to_dict("records")}
    pictures = []
    for path, pixels in _pixels(lakefs, project, reference, list(rows)):
        row = rows[path]
        said = " → ".join(str(text) for text in (row["label"], row["suspected"]) if text is not None)
        name = path.rpartition("/")[2]
        boxes = [] if row["box"] is None else [row["box"]]
        pictures.append(Captioned(_thumbnail(pixels, boxes, ANSWER), f"{name}: {said}" if said else name))
    return thumbnails_markdown(pictures[:count])


def _pixels(
    lakefs: LakeFSResource, project: Project, reference: str, paths: list[str]
) -> Iterator[tuple[str, Pixels]]:
    """Those of some images that can be shown; one that is missing or broken is the checks' to report."""
    for path, data in lakefs.read_each(project.repository, reference, paths):
        if isinstance(data, bytes):
            with suppress(UnreadableImage):
                yield path, decode_whole(data, path, 3)


def _thumbnail(pixels: Pixels, boxes: Iterable[Mapping[str, float]], colour: Colour = TRUTH) -> Pixels:
    """An image at the size of a thumbnail, with boxes drawn on it."""
    marks = [Mark(box, "", colour) for box in boxes]
    return np.asarray(marked(pixels, marks, THUMBNAIL / max(pixels.shape[:2])))
