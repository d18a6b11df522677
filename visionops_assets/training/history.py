"""What one epoch achieved. Light: whoever shows a training need not load torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """One epoch, counted from 1. Losses are means over samples; validation is None without such samples."""

    epoch: int
    epochs: int
    train_loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float
    restored: bool = False
    """True where an earlier, interrupted training ran this epoch."""
