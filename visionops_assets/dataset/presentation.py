"""A dataset version as tables and pictures for the UI."""

import pandas as pd

from resources.lakefs import LakeFSResource
from visionops_assets.dataset.annotations import SPLITS
from visionops_assets.dataset.decode import decode_whole
from visionops_assets.dataset.pictures import Captioned, thumbnails_markdown
from visionops_assets.dataset.version import DatasetVersion
from visionops_assets.project import Project


def class_table(used: pd.DataFrame) -> pd.DataFrame:
    """Samples by class (rows) and split (columns), with totals."""
    counts = pd.crosstab(used["label"], used["split"]).reindex(columns=list(SPLITS), fill_value=0)
    counts["all"] = counts.sum(axis=1)
    counts.loc["all classes"] = counts.sum()
    return counts.rename_axis(index="class", columns=None).reset_index()


def sample_pictures(lakefs: LakeFSResource, project: Project, version: DatasetVersion, count: int) -> str:
    """Thumbnails of a few samples as Markdown, one class after the other."""
    place_in_class = version.used.groupby("label").cumcount()
    chosen = version.used.iloc[place_in_class.sort_values(kind="stable").index[:count]]
    images = lakefs.read_many(project.repository, version.commit.id, chosen["path"].tolist())
    labels = dict(zip(chosen["path"], chosen["label"], strict=True))
    return thumbnails_markdown(
        [Captioned(decode_whole(data, path, 3), str(labels[path])) for path, data in images]
    )
