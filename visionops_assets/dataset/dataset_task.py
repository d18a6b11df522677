"""What the dataset asks of a task: what its truth is in a table of annotations, how that is read, checked, compared and
shown, and how what is to be labelled is handed to a labelling tool.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.common.findings import findings_table
from visionops_assets.tasks.task_registry import facet, names, task, task_taught_by

Rows = NDArray[np.int64]
# What formats of sources have columns for; the truth of another task is read from a table's cells.
READ_BY_FORMATS = ("label", "boxes")


class Suspect(NamedTuple):
    """An image that the champion is confident is annotated wrongly: it says `suspected`, of a detector in a `box`."""

    path: str
    confidence: float
    what: str
    suspected: str
    box: Mapping[str, float] | None = None


class DatasetTask(Protocol):
    """What the dataset asks of a task.

    `kind` is the type of its truth's column in annotations; `nothing` what an image counts as that names no class.
    `label_formats` are what its labels can be written as, the default first. `whole_images` says that a label is of
    the whole image. `label_studio` is what its labelling interface is made of: the control's tag, its type in results,
    and the tag of a choice.
    """

    kind: ClassVar[pa.DataType]
    nothing: ClassVar[tuple[str, ...]] = ()
    label_formats: ClassVar[tuple[str, ...]]
    whole_images: ClassVar[bool]
    label_studio: ClassVar[tuple[str, str, str]]

    def named(self, truths: pa.Array) -> tuple[pa.Array, Rows]:
        """The classes that a column names, text (M,), each with its row."""
        ...

    def classes(self, truth: Any) -> tuple[str, ...]:
        """The classes of one image, each once."""
        ...

    def text(self, truth: Any) -> str:
        """A truth as findings compare and tell it: the same text, the same truth."""
        ...

    def shown(self, truth: Any) -> str:
        """What is written beside a picture."""
        return self.text(truth)

    def boxes(self, truth: Any) -> Sequence[Mapping[str, Any]]:
        """What is drawn on a picture."""
        return ()

    def fault(self, truths: pa.Array) -> tuple[int, str] | None:
        """The first row whose truth cannot be, and why; null is told already."""
        return None

    def rows_to_check(self, table: pa.Table) -> Rows:
        """Rows of annotations in which `check` may find something."""
        return np.zeros(0, np.int64)

    def check(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Findings on the truths of rows, beside unknown classes."""
        return findings_table([])

    def askable(self, truths: pa.Array, learnt: Sequence[str]) -> NDArray[np.bool_]:
        """Which rows a champion that learnt these classes can have an opinion of."""
        return np.ones(len(truths), bool)

    def suspects(
        self, rows: pd.DataFrame, said: pd.DataFrame, learnt: Sequence[str], confident: float
    ) -> tuple[list[Suspect], int]:
        """The rows that the champion is `confident` enough are wrong by what it `said`, and how many were compared."""
        return [], 0


class TaskOfCells(DatasetTask, Protocol):
    """What is asked besides of a task that no format of a source has columns for, as all have for labels and boxes."""

    def of_cell(self, cell: Any) -> Any:
        """The truth that a cell of somebody's table says; None where it says nothing. Raises ValueError."""
        ...

    def with_classes(self, truth: Any, called: Callable[[str], str | None]) -> Any:
        """A truth with its classes called otherwise, or left out where they are called None."""
        ...


class Truth(NamedTuple):
    """The column that a table learns from, and the facet of its task."""

    column: str
    task: DatasetTask


class OwnTruth(NamedTuple):
    """A column of a source's own that a task of somebody's own learns from, and the facet of that task."""

    column: str
    task: TaskOfCells


def dataset_task(name: str) -> DatasetTask:
    """The facet of the task that a project file names. Raises `UnknownTask`."""
    found: DatasetTask = facet(name, "dataset")
    return found


def truth_of(columns: Collection[str]) -> Truth:
    """The truth among the columns of a table; see `task_taught_by`. Raises `UnknownTask` for none, or several."""
    found = task_taught_by(columns)
    return Truth(found.truth, dataset_task(found.name))


def own_truth(columns: Collection[str]) -> OwnTruth | None:
    """The truth among columns that no format of a source knows; None where there is none."""
    for each in map(task, names()):
        if each.truth in columns and each.truth not in READ_BY_FORMATS:
            found: TaskOfCells = facet(each.name, "dataset")
            return OwnTruth(each.truth, found)
    return None
