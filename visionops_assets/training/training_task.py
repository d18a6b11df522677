"""What a task decides of a training: its targets, what ships, how validation is measured; and what each epoch
achieved, measured the same way for every model, reported once an epoch.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple, Protocol

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visionops_assets.common import progress
from visionops_assets.common.errors import TrainingError
from visionops_assets.config.recipe import InputSpec, Recipe
from visionops_assets.images.box_metrics import ScoreThreshold
from visionops_assets.tasks.task_registry import facet
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.fine_tuning import AveragedWeights
from visionops_assets.training.models import Shipped
from visionops_assets.training.provenance import EpochReport

# A batch of about this many pixels stays in the processor's caches: a third faster than four times as many.
_EVALUATED_PIXELS = 1 << 16
_MOST_PIXELS = 1 << 22


class Validation(NamedTuple):
    """Mean loss, None where the model has none of its own, the task's score, and where a detector's boxes are meant."""

    loss: float | None
    score: float
    threshold: ScoreThreshold | None = None


class TrainingTask(Protocol):
    """What training asks of a task. `score` names what validation reports beside the loss, higher where better."""

    score: ClassVar[str]
    shipped: ClassVar[type[Shipped]]

    def targets(self, rows: pd.DataFrame, classes: Sequence[str], input: InputSpec) -> NDArray[Any]:
        """The targets of a manifest's rows, in their order."""

    def labels(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        """The class index of all that is labelled, flat."""

    def follow(self, targets: Tensor, recipe: Recipe, epoch: int, samples: NDArray[np.int64]) -> Tensor:
        """Targets that follow the augmentation of their images."""

    def validate(self, shipped: Shipped, images: LabelledImages) -> Validation:
        """Measure what would ship on a split."""

    def measure(self, shipped: Shipped, images: LabelledImages) -> tuple[float | None, float]:
        """Mean loss and score of what would ship on a split."""
        found = self.validate(shipped, images)
        return found.loss, found.score

    def ship(self, model: nn.Module, classes: Sequence[str], input: InputSpec) -> Shipped:
        """A model as it ships. Raises ModelError where it does not fit the task."""
        return self.shipped(model, classes, input)


def training_task(name: str) -> TrainingTask:
    """The facet of the task that a project file names. Raises `UnknownTask`."""
    found: TrainingTask = facet(name, "training")
    return found


def evaluated_at_once(input: InputSpec) -> int:
    """How many images of an input's size validation computes together."""
    pixels = input.height * input.width
    # Sixteen also of larger ones, while memory has room for what is computed of them.
    return min(max(_EVALUATED_PIXELS // pixels, min(16, max(1, _MOST_PIXELS // pixels))), 512)


class EpochReporter(lightning.Callback):
    """Collects the loss of each step and reports at the epoch's end; stops a training that diverged."""

    def __init__(
        self,
        task: TrainingTask,
        shipped: Shipped,
        validation: LabelledImages | None,
        on_epoch: Callable[[EpochReport], None] | None,
        averaged: AveragedWeights | None = None,
    ) -> None:
        self._averaged = averaged
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
        validation = self._validated(pl_module)
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

    def _validated(self, module: lightning.LightningModule) -> Validation | None:
        """What would ship, measured: the average of the weights where there is one."""
        if self._validation is None:
            return None
        with self._averaged.in_place(module) if self._averaged is not None else nullcontext():
            return self._task.validate(self._shipped, self._validation)

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
