"""The predictions table: what both models answer on the holdout, from the ONNX files that ship, and what makes the
table unfit: a number that is none, a label nobody knows.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.onnx_model import ModelFileError
from resources.error_family import Invalid
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.inference.shipped_model import ShippedModel
from visionops_assets.tasks.task_registry import task_taught_by

_SUM_TOLERANCE = 1e-3
_ANSWER = ("prediction", "confidence", "probabilities")


def key_columns(truth: str) -> tuple[str, ...]:
    """The columns that say which image a row is, with its `truth`: `label` or `boxes`."""
    return ("sha256", "path", "batch", "group", truth)


def answer_columns(model: str) -> tuple[str, ...]:
    """The columns of one model (`champion` or `challenger`) in the predictions table."""
    return tuple(f"{model}_{answer}" for answer in _ANSWER)


def table_faults(
    predictions: pd.DataFrame, rules: GateRules, *, classes: Sequence[str], with_champion: bool
) -> list[str]:
    """Sentences, each naming a fault and the image or column it concerns; empty for a sound table."""
    models = ("challenger", "champion") if with_champion else ("challenger",)
    wanted = [*key_columns("label"), *rules.slices, *(c for model in models for c in answer_columns(model))]
    missing = missing_columns(predictions, wanted)
    if missing or predictions.empty:
        return missing
    faults = [*key_faults(predictions), *_label_faults(predictions, classes)]
    for model in models:
        faults += _answer_faults(predictions, model)
    return faults


def missing_columns(predictions: pd.DataFrame, wanted: Sequence[str]) -> list[str]:
    """A sentence for each column that is not there."""
    missing = [column for column in wanted if column not in predictions.columns]
    return [f"the predictions have no column {column!r}, which the gate needs" for column in missing]


def key_faults(predictions: pd.DataFrame) -> list[str]:
    """Images that stand twice, or have no group or batch."""
    faults = []
    paths = predictions["path"].to_numpy()
    twice = predictions["path"].duplicated().to_numpy()
    if twice.any():
        faults.append(f"{paths[twice][0]} stands in the holdout twice")
    for column in ("group", "batch"):
        empty = predictions[column].isna().to_numpy()
        if empty.any():
            faults.append(f"{paths[empty][0]} has no {column}")
    return faults


def _label_faults(predictions: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    unknown = ~predictions["label"].isin(list(classes)).to_numpy()
    if not unknown.any():
        return []
    path, label = (predictions[column].to_numpy()[unknown][0] for column in ("path", "label"))
    return [f"{path} is labelled {label!r}, which is none of the classes {list(classes)}"]


def _answer_faults(predictions: pd.DataFrame, model: str) -> list[str]:
    prediction, confidence, probabilities = answer_columns(model)
    faults = []
    paths = predictions["path"].to_numpy()
    unanswered = predictions[prediction].isna().to_numpy()
    if unanswered.any():
        faults.append(counted(f"the {model} gives no prediction for {paths[unanswered][0]}", unanswered))
    doubtful = ~np.isfinite(pd.to_numeric(predictions[confidence], errors="coerce").to_numpy(np.float64))
    if doubtful.any():
        faults.append(counted(f"the {model}'s confidence in {paths[doubtful][0]} is not finite", doubtful))
    wrong = probability_faults(predictions[probabilities])
    if wrong is not None:
        mask, complaint = wrong
        faults.append(counted(f"the {model}'s probabilities for {paths[mask][0]} {complaint}", mask))
    return faults


def probability_faults(column: pd.Series) -> tuple[np.ndarray, str] | None:
    """The rows (bool mask) whose probabilities are none, with what is wrong; None where all are sound."""
    lengths = np.array([len(p) if isinstance(p, (list, tuple, np.ndarray)) else 0 for p in column])
    usual = int(np.bincount(lengths).argmax())
    odd = (lengths != usual) | (lengths == 0)
    if odd.any():
        return odd, f"number {lengths[odd][0]}, where the other images have {usual}"
    values = np.array(column.tolist(), dtype=np.float64)
    infinite = np.logical_not(np.isfinite(values).all(axis=1))
    if infinite.any():
        return infinite, "are not finite"
    outside = np.any((values < -_SUM_TOLERANCE) | (values > 1 + _SUM_TOLERANCE), axis=1)
    if outside.any():
        return outside, "leave the range from 0 to 1: they look like scores before the softmax"
    off = np.abs(values.sum(axis=1) - 1) > _SUM_TOLERANCE
    if off.any():
        return off, f"sum to {values[off][0].sum():.4g}, not to 1"
    return None


def counted(sentence: str, mask: np.ndarray) -> str:
    """A sentence about the first of several images, with how many more there are."""
    others = int(mask.sum()) - 1
    return f"{sentence} (and {others} more)" if others else sentence


@dataclass(frozen=True)
class Scores:
    """A model's answers: float32 probabilities [images, classes], float32 embeddings [images, D] if asked for."""

    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None = None


def scores_of(
    shipped: ShippedModel, batches: Iterable[NDArray[np.uint8]], *, embeddings: bool = False
) -> Scores:
    """Run a model over decoded images, batch by batch: uint8 [N, H, W, C] at the file's own input size.

    Only answers are kept, so memory holds one batch of images. What the answers are worth is not judged here: a NaN is
    kept, and the gate refuses it by name. Raises ModelFileError where the file is none of format 1, or an image batch
    has another shape than the file states.
    """
    outputs = ["probabilities", "embedding"] if embeddings else ["probabilities"]
    answers = shipped.run(batches, outputs)
    probabilities = _joined(answers[0], len(shipped.classes))
    if probabilities.shape[1] != len(shipped.classes):
        raise ModelFileError(
            f"{shipped.path}: gives {probabilities.shape[1]} probabilities, but names {len(shipped.classes)} classes; "
            "export it again"
        )
    return Scores(shipped.classes, probabilities, _joined(answers[1], 0) if embeddings else None)


def predictions_table(
    holdout: pd.DataFrame,
    *,
    challenger: Scores,
    champion: Scores | None = None,
    slices: Sequence[str] = (),
) -> pd.DataFrame:
    """One row a holdout sample, in the manifest's order: its keys, the slice columns, each model's answers.

    `holdout` is the manifest's rows that were scored, in the order they were scored. A slice column that the
    manifest lacks is left out, which the gate refuses by name.

    Raises ValueError where a model has not one answer an image.
    """
    table = keys_of(holdout, "label", slices)
    for model, scores in (("champion", champion), ("challenger", challenger)):
        if scores is None:
            continue
        if len(scores.probabilities) != len(table):
            raise Invalid(
                f"the {model} answered {len(scores.probabilities)} images, the holdout has {len(table)}"
            )
        prediction, confidence, probabilities = answer_columns(model)
        table[prediction] = _predictions(scores)
        table[confidence] = scores.probabilities.max(axis=1) if len(table) else np.empty(0, np.float32)
        table[probabilities] = pd.Series(list(scores.probabilities), index=table.index, dtype=object)
    return table


def keys_of(holdout: pd.DataFrame, truth: str, slices: Sequence[str]) -> pd.DataFrame:
    """The columns of the manifest's rows that a predictions table starts with; slice columns where it has them."""
    columns = [*key_columns(truth), *(c for c in slices if c in holdout.columns)]
    return holdout[columns].reset_index(drop=True)


def holdout_digest(holdout: pd.DataFrame, slices: Sequence[str] = ()) -> str:
    """SHA-256 of what a verdict depends on of the holdout: its images, labels or boxes, groups, batches and slices.

    The order of rows does not matter. Takes the manifest's holdout rows or a predictions table.
    """
    task = task_taught_by(holdout.columns)
    rows = keys_of(holdout, task.truth, slices).sort_values("path", kind="stable")
    columns = list(rows.columns)
    truths = rows[task.truth].astype(object)
    rows[task.truth] = truths.map(task.truth_as_text).where(truths.notna(), None)
    texts = (
        rows.astype(object).where(rows.notna(), None).map(lambda cell: cell if cell is None else str(cell))
    )
    content = json.dumps([columns, texts.to_numpy().tolist()], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _predictions(scores: Scores) -> NDArray[np.object_]:
    names = np.asarray(scores.classes, dtype=object)
    if not len(scores.probabilities):
        return np.empty(0, dtype=object)
    predictions: NDArray[np.object_] = names[scores.probabilities.argmax(axis=1)]
    # argmax takes a NaN for the largest number: such an image has no prediction.
    predictions[~np.isfinite(scores.probabilities).all(axis=1)] = None
    return predictions


def _joined(parts: list[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.empty((0, width), np.float32)
