"""The inference log: one row a prediction in production. The one home of its columns.

On disk, format 1: Parquet files whose metadata has `visionops.format` = `inference_log/1` and `visionops.task`.
Writers spool files with the column `frame` (the image's bytes, or null) where the log has `capture` (the path of those
bytes in the repository, or null); the collector turns the one into the other. Labels come as files of
`labels/1`. All columns are there in every file, those that may be null included.

`model_sha256` is the model's identity, the SHA-256 of its weights; a writer that knows only the file it runs gives that
file's SHA-256, and the log is read with the identity in its place. `image_sha256` is that of the image's bytes as they
were received. `probabilities` follow the order of the model's classes. Boxes are left, top, width and height in pixels
of the upright image; a row of a detector has in `prediction` and `confidence` the class and score of its best box, or
null where it has none. Image statistics and `embedding` may be null. A row is identified by `timestamp`, `device` and
`image_sha256`.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FORMAT = "inference_log/1"
LABELS_FORMAT = "labels/1"
FORMAT_KEY = b"visionops.format"
TASK_KEY = b"visionops.task"

# The check that says what was left out of a day.

CAPTURES, QUARANTINE, LABELS = "captures/", "quarantine/", "labels/"
# What a day's log is made of.
LOGGED = ("project={project}/", LABELS, "findings/")
IDENTITY = ("timestamp", "device", "image_sha256")


@cache
def log_schema(task: str) -> "pa.Schema":
    """The columns of the committed log; `label` is null until somebody says what the image shows."""
    import pyarrow as pa

    return pa.schema([*_head(), pa.field("capture", pa.string()), *_tail(task)])


@cache
def spool_schema(task: str) -> "pa.Schema":
    """The columns of a spooled file: `frame` is the image as it was received, or null."""
    import pyarrow as pa

    return pa.schema([*_head(), pa.field("frame", pa.binary()), *_tail(task)])


@cache
def labels_schema(task: str) -> "pa.Schema":
    """The columns of late labels: which image, on which production day it was predicted, what it shows.

    A null label takes back what was said before.
    """
    import pyarrow as pa

    from visionops_assets.monitoring.monitoring_task import monitoring_task

    return pa.schema(
        [
            pa.field("image_sha256", pa.string(), nullable=False),
            pa.field("day", pa.date32(), nullable=False),
            pa.field("label", monitoring_task(task).label_type()),
            pa.field("labelled_at", pa.timestamp("us", "UTC"), nullable=False),
        ]
    )


def empty_log(task: str) -> "pd.DataFrame":
    """A log without rows, with all columns."""
    found: pd.DataFrame = log_schema(task).empty_table().to_pandas()
    return found


def capture_path(day: str, image_sha256: str, extension: str) -> str:
    """Where a captured frame lies in the repository of production."""
    return f"{CAPTURES}dt={day}/{image_sha256}.{extension}"


def day_folder(project: str, day: str) -> str:
    """Where the log of a production day lies."""
    return f"project={project}/dt={day}/"


def labels_folder(project: str, day: str) -> str:
    """Prefix of the labels of images that were predicted on a production day."""
    return f"{LABELS}dt={day}/{project}."


def findings_folder(project: str, day: str) -> str:
    """Prefix of what the collector found wrong with what was written for a day."""
    return f"findings/dt={day}/{project}."


def day_of(path: str) -> str | None:
    """The production day (`YYYY-MM-DD`) that a path in the repository belongs to."""
    for part in PurePosixPath(path).parts:
        if part.startswith("dt="):
            return part.removeprefix("dt=")
    return None


def belongs_to(path: str, project: str) -> bool:
    """Whether a path of the repository is one project's, of the several that may share it."""
    return path.startswith(f"project={project}/") or PurePosixPath(path).name.startswith(f"{project}.")


def production_repository(repository: str) -> str:
    """The repository that versions what production saw."""
    return f"{repository}-production"


def _head() -> "Sequence[pa.Field]":
    import pyarrow as pa

    return [
        pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("device_group", pa.string(), nullable=False),
        pa.field("model_sha256", pa.string(), nullable=False),
        pa.field("image_sha256", pa.string(), nullable=False),
    ]


def _tail(task: str) -> "Sequence[pa.Field]":
    import pyarrow as pa

    from visionops_assets.monitoring.monitoring_task import monitoring_task
    from visionops_assets.monitoring.signals import STATISTICS

    learnt = monitoring_task(task)
    return [
        pa.field("prediction", pa.string(), nullable=learnt.may_be_silent),
        pa.field("confidence", pa.float32(), nullable=learnt.may_be_silent),
        *learnt.answer_fields(),
        *(pa.field(name, pa.float32()) for name in STATISTICS),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("label", monitoring_task(task).label_type()),
    ]
