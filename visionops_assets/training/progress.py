"""What each epoch achieved: measured the same way for every model, reported once an epoch."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor

from visionops_assets.common import progress
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.errors import TrainingError
from visionops_assets.training.history import EpochReport
from visionops_assets.training.protocol import Shipped
from visionops_assets.training.tasks import Task


class EpochReporter(lightning.Callback):
    """Collects the loss of each step and reports at the epoch's end; stops a training that diverged."""

    def __init__(
        self,
        task: Task,
        shipped: Shipped,
        validation: LabelledImages | None,
        on_epoch: Callable[[EpochReport], None] | None,
    ) -> None:
        self.history: list[EpochReport] = []
        self._task, self._shipped = task, shipped
        self._validation, self._on_epoch = validation, on_epoch
        self._losses: list[Tensor] = []
        self._weights: list[int] = []
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"history": [dataclasses.asdict(report) for report in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for fields in state_dict["history"]:
            self._report(EpochReport(**{**fields, "restored": True}))

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Its model moved with the trainer; the normalisation follows.
        self._shipped.to(pl_module.device)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._losses, self._weights, self._started = [], [], time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is not None:
            self._losses.append(loss.detach())
            self._weights.append(len(batch[1]))
            if progress.due():
                self._tell(trainer, batch_idx + 1)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if not self._losses:
            raise TrainingError(
                f"{type(pl_module).__name__}.training_step returned no loss; return the loss or a dict with 'loss'"
            )
        weights = torch.tensor(self._weights, dtype=torch.float64)
        losses = torch.stack(self._losses).double().cpu()
        train_loss = float((losses * weights).sum() / weights.sum())
        validation = self._task.validate(self._shipped, self._validation) if self._validation else None
        validation_loss = validation.loss if validation is not None else None
        if not all(math.isfinite(loss or 0.0) for loss in (train_loss, validation_loss)):
            raise TrainingError(
                f"training diverged in epoch {epoch} of {trainer.max_epochs}: the loss is "
                f"{train_loss} (training), {validation_loss} (validation). Lower optimiser.lr, or look for images "
                "or a model that give non-finite values"
            )
        threshold = validation.threshold if validation is not None else None
        self._report(
            EpochReport(
                epoch=epoch,
                epochs=trainer.max_epochs or epoch,
                train_loss=train_loss,
                validation_loss=validation_loss,
                validation_score=validation.score if validation is not None else None,
                learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
                seconds=time.perf_counter() - self._started,
                score=self._task.score,
                min_score=threshold.min_score if threshold is not None else None,
                validation_f1=threshold.f1 if threshold is not None else None,
            )
        )

    def _tell(self, trainer: lightning.Trainer, batches: int) -> None:
        """Say how far the epoch is. Only now and then: to read a loss waits for the accelerator."""
        epoch, epochs = trainer.current_epoch, trainer.max_epochs or 0
        weights = torch.tensor(self._weights, dtype=torch.float64)
        loss = float((torch.stack(self._losses).double().cpu() * weights).sum() / weights.sum())
        share = batches / max(batches, trainer.num_training_batches)
        progress.tell(f"epoch {epoch + 1} of {epochs}, loss {loss:.4f}", epoch + share, epochs)

    def _report(self, report: EpochReport) -> None:
        self.history.append(report)
        if self._on_epoch is not None:
            self._on_epoch(report)
