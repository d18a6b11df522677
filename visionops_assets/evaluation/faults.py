"""What makes a predictions table unfit to be judged: a number that is none, a label nobody knows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from visionops_assets.config.gate_rules import GateRules

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
