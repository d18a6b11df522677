"""What a reproduction asks of the recorded code, and what that answers. Both sides may be of different revisions.

In the folder given to `python -m visionops_assets.reproduction.retrain FOLDER`, format 1: `request.json`, read by
the recorded code; `report.json`, written by it. What was trained lies in `training/`: `weights.safetensors`, and
`model.onnx`, which code from before 2026-12 did not write. On standard output each line is a sentence, or says how far
the training is.
"""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from visionops_assets.training.provenance import Difference, Provenance

REQUEST = "request.json"
REPORT = "report.json"
TRAINING, WEIGHTS, ONNX = "training", "weights.safetensors", "model.onnx"
# Done, of how much, and in words; code from before 2026-12 writes none.
HOW_FAR = re.compile(r"how far: ([\d.]+) of ([\d.]+): (.+)")


def how_far(doing: str, done: float, of: float) -> str:
    """The line that `HOW_FAR` reads."""
    return f"how far: {done:.4f} of {of:.4f}: {doing}"


class Request(BaseModel):
    """Make the model of `original` again; with `train` false, only look at what it would be made of."""

    model_config = ConfigDict(frozen=True)

    format: Literal["1"] = "1"
    original: Provenance
    train: bool


class Report(BaseModel):
    """What became of a request. Without `trained`, `provenance` has inputs only.

    `missing` is an input that could not be had, and then there is no provenance.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal["1"] = "1"
    provenance: Provenance | None = None
    trained: bool = False
    missing: Difference | None = None
