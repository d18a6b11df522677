"""Images that one of two models answers better than the other: won by the challenger, or lost to the champion.

What an error is the task says: a classifier is right or wrong, a detector can make several on one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.onnx_model import DEFAULT_MIN_SCORE
from visionops_assets.evaluation.evaluation_task import Errors, EvaluationTask, Said, evaluation_task
from visionops_assets.tasks.task_registry import task_taught_by

CHALLENGER, CHAMPION = "challenger", "champion"


@dataclass(frozen=True)
class Turned:
    """An image with its truth and both answers; without a champion `champion` is None."""

    path: str
    batch: str
    truth: Said
    challenger: Said
    champion: Said | None


@dataclass(frozen=True)
class WonAndLost:
    """The images on which the two differ, the clearest first; `wrong` are those that the challenger gets wrong, where
    there is none to compare with (`compared`). `meant` are, of detectors, the scores from which boxes count."""

    won: Sequence[Turned] = ()
    lost: Sequence[Turned] = ()
    wrong: Sequence[Turned] = ()
    meant: tuple[float, float] | None = None
    compared: bool = True


def won_and_lost(
    predictions: pd.DataFrame,
    challenger_from: float | None = None,
    champion_from: float | None = None,
) -> WonAndLost:
    """Sort the images of a predictions table. Scores from which boxes are meant are by default the stated ones."""
    task = evaluation_task(task_taught_by(predictions.columns).name)
    least = {
        CHALLENGER: DEFAULT_MIN_SCORE if challenger_from is None else challenger_from,
        CHAMPION: DEFAULT_MIN_SCORE if champion_from is None else champion_from,
    }
    compared = task.answer_column(CHAMPION) in predictions
    models = (CHALLENGER, CHAMPION) if compared else (CHALLENGER,)
    answers = [task.errors(predictions, model, least[model]) for model in models]
    errors = [each.counts for each in answers]
    gain = errors[1] - errors[0] if compared else -errors[0]
    # Of those that differ alike, what was said wrongly and most surely comes first.
    sure = np.where(gain > 0, answers[-1].sure, answers[0].sure)
    order = np.lexsort((-sure, -np.abs(gain)))

    def images(chosen: NDArray[np.bool_]) -> list[Turned]:
        return [_turned(task, predictions, answers, int(row)) for row in order if chosen[row]]

    meant = (least[CHALLENGER], least[CHAMPION]) if task.meant else None
    if not compared:
        return WonAndLost(wrong=images(gain < 0), meant=meant, compared=False)
    return WonAndLost(images(gain > 0), images(gain < 0), meant=meant)


def _turned(task: EvaluationTask, predictions: pd.DataFrame, answers: Sequence[Errors], row: int) -> Turned:
    found = predictions.iloc[row]
    said = [each.said[row] for each in answers]
    return Turned(
        str(found["path"]),
        str(found["batch"]),
        task.truth(found),
        said[0],
        said[1] if len(said) > 1 else None,
    )
