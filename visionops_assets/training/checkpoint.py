"""Checkpoints between epochs, so that a killed training goes on and ends in the same bits."""

import logging
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch

from visionops_assets.training.determinism import seed_epoch

_log = logging.getLogger(__name__)


class EpochBoundary(lightning.Callback):
    """Between epochs writes a checkpoint where one is due, then seeds all generators from (seed, epoch).

    Lightning keeps no generator state, which is why there is none to restore: an epoch's draws follow from its
    number. Written here and not at the epoch's end, because schedulers that step by the epoch have moved by now.
    """

    def __init__(self, path: Path, seed: int, every_seconds: float) -> None:
        self.path, self.seed, self.every_seconds = path, seed, every_seconds
        self._epoch, self._written = -1, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # What was just restored, or not yet trained, needs no checkpoint.
        self._epoch, self._written = trainer.current_epoch, time.monotonic()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if time.monotonic() - self._written >= self.every_seconds:
            self._write(trainer)
        seed_epoch(self.seed, trainer.current_epoch)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning has counted the epoch that is about to start as begun, and would skip its batches on resuming.
        # A state in which all counts agree means "between two epochs".
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        for counts in (progress["current"], progress["total"]):
            counts["ready"] = counts["started"] = counts["completed"]

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: lightning.Trainer) -> None:
        if trainer.current_epoch == self._epoch:
            return
        unfinished = self.path.with_suffix(".unfinished")
        trainer.save_checkpoint(unfinished)
        unfinished.replace(self.path)
        self._epoch, self._written = trainer.current_epoch, time.monotonic()


def is_readable(path: Path) -> bool:
    """Say whether a checkpoint file exists, is whole and holds tensors and plain values; else it is as good as none.

    Whoever can write into the cache could have a checkpoint run code, so it is only ever read as data.
    """
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return False
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        _log.warning("%s holds more than tensors and plain values: training starts anew (%s)", path, reason)
        return False
    return True
