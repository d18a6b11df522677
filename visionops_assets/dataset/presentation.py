"""A dataset version as tables and pictures for the UI."""

from contextlib import suppress

import pandas as pd

from resources.lakefs import LakeFSResource
from resources.lakefs_errors import LakeFSNotFound
from visionops_assets.dataset.annotations import SPLITS
from visionops_assets.dataset.decode import decode_whole
from visionops_assets.dataset.image_header import UnreadableImage
from visionops_assets.dataset.layout import is_image
from visionops_assets.dataset.manifest_diff import labels_of
from visionops_assets.dataset.pictures import Captioned, thumbnails_markdown
from visionops_assets.dataset.version import DatasetVersion
from visionops_assets.project import Project


def class_table(used: pd.DataFrame) -> pd.DataFrame:
    """Samples by class (rows) and split (columns), with totals; in detection, images with boxes of the class."""
    labels = labels_of(used)
    splits = used["split"].iloc[labels.index].to_numpy()
    counts = pd.crosstab(labels.to_numpy(), splits).reindex(columns=list(SPLITS), fill_value=0)
    counts["all"] = counts.sum(axis=1)
    counts.loc["all classes"] = counts.sum()
    return counts.rename_axis(index="class", columns=None).reset_index()


def sample_pictures(lakefs: LakeFSResource, project: Project, version: DatasetVersion, count: int) -> str:
    """Thumbnails of a few samples as Markdown, one class after the other."""
    # In detection an image stands for the first class it has boxes of.
    first = labels_of(version.used).groupby(level=0).first()
    place_in_class = first.groupby(first).cumcount()
    chosen = place_in_class.sort_values(kind="stable").index[:count]
    labels = dict(zip(version.used["path"].iloc[chosen], first.loc[chosen], strict=True))
    pictures = []
    # An image that is missing or broken is the checks' to report; here it is left out.
    with suppress(LakeFSNotFound):
        for path, data in lakefs.read_many(project.repository, version.commit.id, list(labels)):
            with suppress(UnreadableImage):
                pictures.append(Captioned(decode_whole(data, path, 3), str(labels[path])))
    return thumbnails_markdown(pictures)


def finding_pictures(
    lakefs: LakeFSResource, project: Project, reference: str, findings: pd.DataFrame, count: int = 8
) -> str:
    """Thumbnails of the first images that were found and can be shown, as Markdown; empty where there are none."""
    paths = [path for path in findings["image"].drop_duplicates() if is_image(path)][: 2 * count]
    pictures = []
    for path, data in lakefs.read_each(project.repository, reference, paths):
        # An image that is no image has no picture; its row says what it is.
        if isinstance(data, bytes):
            with suppress(UnreadableImage):
                pictures.append(Captioned(decode_whole(data, path, 3), path.rpartition("/")[2]))
    return thumbnails_markdown(pictures[:count]) if pictures else ""
