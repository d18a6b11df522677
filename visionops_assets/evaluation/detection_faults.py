"""What makes a detector's predictions table unfit to be judged."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation.detections import boxes_column
from visionops_assets.evaluation.faults import counted, key_columns, key_faults, missing_columns


def detection_faults(
    predictions: pd.DataFrame, rules: GateRules, *, classes: Sequence[str], with_champion: bool
) -> list[str]:
    """Sentences, each naming a fault and the image or column it concerns; empty for a sound table."""
    models = ("challenger", "champion") if with_champion else ("challenger",)
    wanted = [*key_columns("boxes"), *rules.slices, *(boxes_column(model) for model in models)]
    missing = missing_columns(predictions, wanted)
    if missing or predictions.empty:
        return missing
    faults = [*key_faults(predictions), *_truth_faults(predictions, classes)]
    for model in models:
        faults += _answer_faults(predictions, model)
    return faults


def _truth_faults(predictions: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    for path, boxes in zip(predictions["path"], predictions["boxes"], strict=True):
        for box in boxes:
            if box["label"] not in classes:
                return [f"{path} has a box of {box['label']!r}, which is none of the classes {list(classes)}"]
    return []


def _answer_faults(predictions: pd.DataFrame, model: str) -> list[str]:
    paths, answers = predictions["path"].to_numpy(), predictions[boxes_column(model)]
    unanswered = np.array([not isinstance(boxes, list | tuple | np.ndarray) for boxes in answers])
    if unanswered.any():
        return [counted(f"the {model} gives no answer for {paths[unanswered][0]}", unanswered)]
    faults = []
    numbers = [
        np.array([[box[side] for side in ("x", "y", "w", "h", "score")] for box in boxes]).reshape(-1, 5)
        for boxes in answers
    ]
    for wrong, complaint in (
        ([not np.isfinite(rows).all() for rows in numbers], "has a box whose numbers are not finite"),
        ([bool((rows[:, 2:4] < 0).any()) for rows in numbers], "has a box of negative width or height"),
        (
            [bool(((rows[:, 4] < 0) | (rows[:, 4] > 1)).any()) for rows in numbers],
            "has a score outside 0 to 1",
        ),
    ):
        mask = np.array(wrong)
        if mask.any():
            faults.append(counted(f"the {model}'s answer for {paths[mask][0]} {complaint}", mask))
    return faults
