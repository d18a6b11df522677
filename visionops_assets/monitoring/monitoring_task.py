"""What monitoring asks of a task: the columns of its log, what of them is watched, and how well a day went."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.tasks.task_registry import facet

if TYPE_CHECKING:
    import pyarrow as pa

# Rows of the log -> which of them are at fault, bool.
Fault = Callable[[pd.DataFrame], pd.Series]
# Of the intervals of performance.
LEVEL = 0.95


@dataclass(frozen=True)
class Performance:
    """A metric of one day with its interval. `rows` of the day it rests on, and how it came about in words."""

    metric: str
    value: float
    lower: float
    upper: float
    rows: int
    how: str


class MonitoringTask(Protocol):
    """What monitoring asks of a task.

    Watched are image statistics, the `numbers` and the `category`. `beside` are columns of answers that features keep
    beside prediction and confidence. A model that `may_be_silent` may say nothing of an image. Performance can be
    `estimated` without labels where a confidence is the chance to be right.
    """

    numbers: ClassVar[tuple[str, ...]]
    category: ClassVar[str]
    beside: ClassVar[tuple[str, ...]] = ()
    may_be_silent: ClassVar[bool] = False
    estimated: ClassVar[bool] = False

    @abstractmethod
    def answer_fields(self) -> "Sequence[pa.Field]":
        """The columns of the log beside prediction and confidence."""

    @abstractmethod
    def label_type(self) -> "pa.DataType":
        """What the log has as the label of an image."""

    @abstractmethod
    def watched(self, rows: pd.DataFrame) -> Mapping[str, Any]:
        """The `numbers` and the `category` of rows of the log, by name, in its order."""

    @abstractmethod
    def faults(self) -> Mapping[str, Fault]:
        """What can be wrong with an answer, in words."""

    @abstractmethod
    def classes_in(self, label: Any) -> set[str]:
        """The classes that a label names."""

    @abstractmethod
    def doubt(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """How uncertain a model is of each row, 0 to 1; NaN where it cannot be told."""

    @abstractmethod
    def labels(self, holdout: pd.DataFrame) -> pd.Series:
        """The labels of the manifest's rows, in the words of the log."""

    @abstractmethod
    def truths(self, labels: pd.Series) -> Mapping[str, Any]:
        """The column of a manifest that labels of the log make."""

    @abstractmethod
    def realised(self, labelled: pd.DataFrame, classes: Sequence[str]) -> Performance | None:
        """The performance on labelled rows, at least one; None where they tell nothing."""


def monitoring_task(name: str) -> MonitoringTask:
    """The facet of the task that a project file names. Raises `UnknownTask`."""
    found: MonitoringTask = facet(name, "monitoring")
    return found
