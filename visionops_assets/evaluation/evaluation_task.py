"""What evaluation asks of a task, from the answers of shipped files to the numbers of a verdict."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.onnx_model import ModelFileError
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation.context import GateContext
from visionops_assets.evaluation.verdict import Evidence
from visionops_assets.inference.shipped_model import ShippedModel
from visionops_assets.tasks.task_registry import facet

Pixels = NDArray[np.uint8]
# Paths -> (path, image uint8 [H, W, 3]).
Images = Callable[[list[str]], Iterable[tuple[str, Pixels]]]


@dataclass(frozen=True)
class Said:
    """What a model says of an image, in words; of a detector the `boxes` that are meant, best first."""

    words: str
    boxes: Sequence[Any] = ()


@dataclass(frozen=True)
class Errors:
    """The answers of one model: what it got wrong [N], how sure it is [N], what it says."""

    counts: NDArray[np.float64]
    sure: NDArray[np.float64]
    said: Sequence[Said]


class EvaluationTask(Protocol):
    """What evaluation asks of a task. `meant` says whether a model's answers count from a score of its own on."""

    name: ClassVar[str]
    meant: ClassVar[bool] = False

    def answers(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        """What a model's file answers, as `table` takes it. Raises ModelFileError for a file of another task."""
        if shipped.task != self.name:
            raise ModelFileError(
                f"{shipped.path} is a model for {shipped.task}, the project's task is {self.name}"
            )
        return self.run(shipped, batches)

    @abstractmethod
    def run(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        """The same of a file of this task."""

    @abstractmethod
    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        """The predictions table of the manifest's holdout rows."""

    @abstractmethod
    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> list[str]:
        """Sentences on what makes the table unfit to be judged."""

    def absence(self, predictions: pd.DataFrame) -> str | None:
        """What a sound table lacks altogether, so that nothing can be judged; None where it does not."""
        return "the holdout has no image." if predictions.empty else None

    @abstractmethod
    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> Evidence:
        """All numbers of the verdict, of a sound table with rows."""

    def examples(self, predictions: pd.DataFrame, classes: Sequence[str], images: Images) -> bytes | None:
        """A small PNG of answers against truths; None where a table says it better."""
        return None

    @abstractmethod
    def opinion(self, answers: Any, sides: Sequence[tuple[int, int]]) -> pd.DataFrame:
        """What a model thinks of images of these heights and widths, one row each, to be held to what they are said
        to show."""

    @abstractmethod
    def truth(self, row: pd.Series) -> Said:
        """What an image of the predictions table shows."""

    @abstractmethod
    def answer_column(self, model: str) -> str:
        """The column that the predictions table has of one model (`champion` or `challenger`) if it answered."""

    @abstractmethod
    def errors(self, predictions: pd.DataFrame, model: str, least: float) -> Errors:
        """What one model got wrong, its answers counting from the score `least` on where they are `meant`."""


def evaluation_task(name: str) -> EvaluationTask:
    """The facet of the task that a project file names. Raises `UnknownTask`."""
    found: EvaluationTask = facet(name, "evaluation")
    return found
