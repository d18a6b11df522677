"""What one epoch achieved. Light: whoever shows a training need not load torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """One epoch, counted from 1. Losses are means over samples; validation is None without such samples.

    `score` names what `validation_score` is: accuracy or mAP50.
    """

    epoch: int
    epochs: int
    train_loss: float
    validation_loss: float | None
    validation_score: float | None
    learning_rate: float
    seconds: float
    score: str = "accuracy"
    # Of a detector: from which score on its boxes are meant, and the F1 that this gives.
    min_score: float | None = None
    validation_f1: float | None = None
    restored: bool = False
    """True where an earlier, interrupted training ran this epoch."""
