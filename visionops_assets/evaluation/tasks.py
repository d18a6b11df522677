"""What a task decides of a judgement: how models answer, what makes their table unfit, and what is measured of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.model import ModelFileError
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.detection_evidence import measure_detection
from visionops_assets.evaluation.detection_faults import detection_faults
from visionops_assets.evaluation.detection_pictures import examples_picture
from visionops_assets.evaluation.detections import detect, detections_table
from visionops_assets.evaluation.evidence import measure
from visionops_assets.evaluation.faults import table_faults
from visionops_assets.evaluation.predictions import predictions_table, scores_of
from visionops_assets.evaluation.verdict import Evidence
from visionops_assets.inference.shipped_model import ShippedModel

Pixels = NDArray[np.uint8]
# Paths -> (path, image uint8 [H, W, 3]).
Images = Callable[[list[str]], Iterable[tuple[str, Pixels]]]


class EvaluationTask(ABC):
    """Classification or detection."""

    name: str

    def answers(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        """What a model's file answers, as `table` takes it. Raises ModelFileError for a file of another task."""
        if shipped.task != self.name:
            raise ModelFileError(
                f"{shipped.path} is a model for {shipped.task}, the project's task is {self.name}"
            )
        return self._answers(shipped, batches)

    @abstractmethod
    def _answers(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any: ...

    @abstractmethod
    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        """The predictions table of the manifest's holdout rows."""

    @abstractmethod
    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> list[str]:
        """Sentences on what makes the table unfit to be judged."""

    def absence(self, predictions: pd.DataFrame) -> str | None:
        """What a sound table lacks altogether, so that nothing can be judged; None where it does not."""
        return "the holdout has no image." if predictions.empty else None

    @abstractmethod
    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> Evidence:
        """All numbers of the verdict, of a sound table with rows."""

    def examples(self, predictions: pd.DataFrame, classes: Sequence[str], images: Images) -> bytes | None:
        """A small PNG of answers against truths; None where a table says it better."""
        return None


class _Classification(EvaluationTask):
    name = "classification"

    def _answers(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        return scores_of(shipped, batches)

    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        return predictions_table(holdout, challenger=challenger, champion=champion, slices=slices)

    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> list[str]:
        with_champion = context.champion is not None
        return table_faults(predictions, rules, classes=context.classes, with_champion=with_champion)

    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> Evidence:
        return measure(predictions, rules, context)


class _Detection(EvaluationTask):
    name = "detection"

    def _answers(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        return detect(shipped, batches)

    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        return detections_table(holdout, challenger=challenger, champion=champion, slices=slices)

    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> list[str]:
        with_champion = context.champion is not None
        return detection_faults(predictions, rules, classes=context.classes, with_champion=with_champion)

    def absence(self, predictions: pd.DataFrame) -> str | None:
        if not predictions.empty and predictions["boxes"].map(len).sum() == 0:
            return "the holdout has no box to find."
        return super().absence(predictions)

    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> Evidence:
        return measure_detection(predictions, rules, context)

    def examples(self, predictions: pd.DataFrame, classes: Sequence[str], images: Images) -> bytes | None:
        return examples_picture(predictions, classes, images)


_TASKS: dict[str, EvaluationTask] = {task.name: task for task in (_Classification(), _Detection())}


def evaluation_task(name: str) -> EvaluationTask:
    """The task that a project file names."""
    return _TASKS[name]
