"""Train a challenger: from a recipe and decoded samples to weights, the same bits each time; a plain `nn.Module` by
the recipe's optimiser and schedule.
"""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from visionops_assets.common.errors import ModelError, TrainingError
from visionops_assets.config.augmentations import Mixing
from visionops_assets.config.recipe import InputSpec, Recipe, canonical_json, resolve
from visionops_assets.config.training_rules import Loss
from visionops_assets.tasks.task_registry import CLASSIFICATION
from visionops_assets.training import code_digest
from visionops_assets.training.batches import LabelledImages, TrainingData, channel_statistics
from visionops_assets.training.determinism import EpochBoundary, deterministic_session, is_readable, quiet
from visionops_assets.training.fine_tuning import (
    AveragedWeights,
    Frozen,
    balanced_weights,
    rated_parameters,
    refuse_what_does_not_fit,
    warmed_up,
    weighed_loss,
)
from visionops_assets.training.model_files import read_weights, save_weights
from visionops_assets.training.models import (
    Shipped,
    build_model,
    normalisation_of,
    told_as_of,
    training_loss_of,
)
from visionops_assets.training.pretrained.weights_fitting import Start, start_from
from visionops_assets.training.provenance import EpochReport
from visionops_assets.training.training_task import EpochReporter, TrainingTask, training_task

_TRAINING_HOOKS = ("training_step", "configure_optimizers")


class TrainedByRecipe(lightning.LightningModule):
    """Trains `model` on batches of images float [n, C, H, W] and targets."""

    def __init__(self, model: nn.Module, recipe: Recipe, head: frozenset[str] = frozenset()) -> None:
        """`head` names the parameters that `fine_tuning.head_multiplier` is for."""
        super().__init__()
        self.model, self.recipe, self.head = model, recipe, head
        mixed = any(isinstance(each, Mixing) for each in recipe.augmentations)
        self._weighs = mixed or recipe.loss != Loss()

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.model(images)
        return found

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        if self._weighs:
            images, targets = batch
            return weighed_loss(self.model(images), targets, self.recipe.loss)
        return training_loss_of(self.model, *batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        declared = self.recipe.optimiser
        parameters = rated_parameters(self.model, declared, self.recipe.fine_tuning, self.head)
        optimiser: torch.optim.Optimizer
        if declared.name == "sgd":
            optimiser = SGD(
                parameters,
                lr=declared.lr,
                momentum=declared.momentum or 0.0,
                weight_decay=declared.weight_decay,
            )
        else:
            optimiser = AdamW(parameters, lr=declared.lr, weight_decay=declared.weight_decay, fused=True)
        if declared.schedule == "none" and not declared.warmup_epochs:
            return optimiser
        steps = int(self.trainer.estimated_stepping_batches)
        schedule: LRScheduler
        if declared.warmup_epochs:
            warmup = round(steps * min(1.0, declared.warmup_epochs / self.recipe.epochs))
            schedule = LambdaLR(optimiser, warmed_up(declared.schedule, warmup, steps))
        elif declared.schedule == "onecycle":
            rates = [group["lr"] for group in optimiser.param_groups]
            schedule = OneCycleLR(optimiser, max_lr=rates, total_steps=steps)
        else:
            schedule = CosineAnnealingLR(optimiser, T_max=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def as_lightning(
    model: nn.Module, recipe: Recipe, head: frozenset[str] = frozenset()
) -> lightning.LightningModule:
    """Return the module the Trainer fits: the model itself where it brings its own training, else `TrainedByRecipe`.

    Raises ModelError for a LightningModule with half of what training needs.
    """
    if not isinstance(model, lightning.LightningModule):
        return TrainedByRecipe(model, recipe, head)
    missing = [name for name in _TRAINING_HOOKS if not is_overridden(name, model, lightning.LightningModule)]
    if not missing:
        return model
    if len(missing) == len(_TRAINING_HOOKS):
        return TrainedByRecipe(model, recipe, head)
    raise ModelError(
        f"{type(model).__name__} is a LightningModule without {missing[0]}: "
        "define training_step and configure_optimizers, or neither to train by the recipe"
    )


@dataclass(frozen=True)
class TrainingRequest:
    """What to train on what.

    `identity` is the training identity (project, manifest, recipe, code): a checkpoint left in the work folder
    is taken up only by a request of the same identity. `init_weights` is the local copy of
    `recipe.model.init_weights`. `loader_workers` and `checkpoint_seconds` (at least so long between
    checkpoints, always between epochs) change speed, never bits.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    train: LabelledImages
    validation: LabelledImages | None
    identity: str
    task: TrainingTask = field(default_factory=lambda: training_task(CLASSIFICATION))
    init_weights: Path | None = None
    loader_workers: int = 0
    checkpoint_seconds: float = 2.0


@dataclass(frozen=True)
class TrainingResult:
    """A trained model as it ships, in evaluation mode on the CPU, and its weights file.

    `recipe` is resolved: precision and normalisation are what ran. `own_training` says that the model brought
    its own optimiser, so the recipe's was not used. `start` says what init_weights filled, and what not.
    """

    shipped: Shipped
    weights: Path
    weights_sha256: str
    recipe: Recipe
    history: tuple[EpochReport, ...]
    own_training: bool
    start: Start | None

    @property
    def metrics(self) -> dict[str, float]:
        """Final losses and validation scores, by name; what could not be measured is left out."""
        last = self.history[-1]
        named = {
            "train_loss": last.train_loss,
            "validation_loss": last.validation_loss,
            f"validation_{last.score}": last.validation_score,
            "validation_F1": last.validation_f1,
            "min_score": last.min_score,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def min_score(self) -> float | None:
        """From which score on a detector's boxes are meant; None where validation did not tell."""
        return self.history[-1].min_score


def train(
    request: TrainingRequest,
    workdir: Path,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> TrainingResult:
    """Train by the recipe and write `weights.safetensors` into `workdir`.

    The last epoch's weights are taken, not the best epoch's: the schedules end at a learning rate near zero, where
    the last is as good as any, and the validation split stays an honest estimate because nothing was chosen by
    it. Resumes from a checkpoint in `workdir` that an interrupted training of the same request left; `on_epoch`
    is then told of the restored epochs first.

    Raises TrainingError (and its kinds) where the request cannot be trained; the message says what to change.
    """
    _refuse_what_cannot_train(request)
    recipe = _resolved(request)
    workdir.mkdir(parents=True, exist_ok=True)
    bitwise = recipe.reproducibility == "bitwise"
    with quiet(), deterministic_session(seed=recipe.seed, threads=recipe.threads, bitwise=bitwise):
        shipped, start = _fresh_model(request, recipe)
        head = _learns_first(shipped.model, start, request, recipe)
        module = as_lightning(shipped.model, recipe, head)
        own_training = module is shipped.model
        refuse_what_does_not_fit(recipe, shipped.model, own_training, request.train.labels.ndim == 1)
        data = TrainingData(recipe, request.train, request.task.follow, request.loader_workers)
        averaged = AveragedWeights(recipe.averaging, data.plain) if recipe.averaging is not None else None
        reporter = EpochReporter(request.task, shipped, request.validation, on_epoch, averaged)
        frozen = recipe.fine_tuning.freeze_epochs
        checkpoint = workdir / f"{_checkpoint_name(request, recipe)}.ckpt"
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            precision=recipe.precision,  # type: ignore[arg-type]
            max_epochs=recipe.epochs,
            deterministic=True if bitwise else "warn",
            gradient_clip_val=recipe.optimiser.clip_norm,
            accumulate_grad_batches=recipe.optimiser.accumulate,
            callbacks=[
                # What an epoch ended with is averaged before it is measured, and written before it is replaced.
                EpochBoundary(checkpoint, recipe.seed, request.checkpoint_seconds),
                *([Frozen(shipped.model, frozen, head)] if frozen else []),
                *([averaged] if averaged is not None else []),
                reporter,
            ],
            default_root_dir=workdir,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        with told_as_of(recipe.model.class_path):
            _fit(trainer, module, data, checkpoint)
        if averaged is not None:
            averaged.take(module)
        shipped.cpu().eval()
        weights = workdir / "weights.safetensors"
        digest = save_weights(shipped, weights)
    return TrainingResult(shipped, weights, digest, recipe, tuple(reporter.history), own_training, start)


def _resolved(request: TrainingRequest) -> Recipe:
    recipe = resolve(request.recipe, fast_bf16=code_digest.fast_bf16())
    if recipe.input.mean is None:
        said = normalisation_of(recipe.model, recipe.input.channels)
        mean, std = said or channel_statistics(request.train)
        spec: InputSpec = recipe.input.model_copy(update={"mean": mean, "std": std})
        recipe = recipe.model_copy(update={"input": spec})
    if recipe.loss.class_weights == "balanced" and request.train.labels.ndim == 1:
        weights = balanced_weights(request.train.labels, len(request.classes))
        recipe = recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"class_weights": weights})})
    if isinstance(given := recipe.loss.class_weights, tuple) and len(given) != len(request.classes):
        raise TrainingError(
            f"loss.class_weights: {len(given)} for {len(request.classes)} classes; give one a class, in their order"
        )
    return recipe


def _fresh_model(request: TrainingRequest, recipe: Recipe) -> tuple[Shipped, Start | None]:
    model = build_model(recipe.model, request.classes, recipe.input)
    start: Start | None = None
    if (declared := recipe.model.init_weights) is not None:
        if request.init_weights is None:
            raise TrainingError(
                "the recipe names model.init_weights, but no local copy of the file was given"
            )
        given = read_weights(request.init_weights, declared.sha256)
        start = start_from(model, given, declared.uri, lambda: _head_of(model, request, recipe))
    cast(Any, model).to(memory_format=torch.channels_last)
    return request.task.ship(model, request.classes, recipe.input), start


def _learns_first(
    model: nn.Module, start: Start | None, request: TrainingRequest, recipe: Recipe
) -> frozenset[str]:
    """The tensors that start fresh, or without given weights those of the head; none where nobody asks."""
    tuning = recipe.fine_tuning
    if not tuning.freeze_epochs and tuning.head_multiplier == 1 and tuning.layer_decay == 1:
        return frozenset()
    if start is not None and tuning.freeze_epochs and not start.fresh:
        raise TrainingError(
            "fine_tuning.freeze_epochs: the given weights fill the whole model, so nothing would learn; remove it"
        )
    return frozenset(start.fresh) if start is not None else _head_of(model, request, recipe)


def _head_of(model: nn.Module, request: TrainingRequest, recipe: Recipe) -> frozenset[str]:
    """The tensors of a model whose shape follows from the number of classes: one more gives them another."""
    try:
        # What it draws is of no account: each epoch seeds the generators anew.
        other = build_model(recipe.model, (*request.classes, "one more"), recipe.input).state_dict()
    except ModelError:
        return frozenset()
    return frozenset(
        name
        for name, tensor in model.state_dict().items()
        if name in other and other[name].shape != tensor.shape
    )


def _fit(
    trainer: lightning.Trainer,
    module: lightning.LightningModule,
    data: TrainingData,
    checkpoint: Path,
) -> None:
    try:
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=checkpoint if is_readable(checkpoint) else None,
            weights_only=True,
        )
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit of the whole process, which is not its to decide here.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise


def _checkpoint_name(request: TrainingRequest, recipe: Recipe) -> str:
    parts = {
        "identity": request.identity,
        "recipe": recipe.model_dump(mode="json"),
        "classes": request.classes,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "python": sys.version_info[:2],
    }
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:16]


def _refuse_what_cannot_train(request: TrainingRequest) -> None:
    if not request.classes or len(set(request.classes)) != len(request.classes):
        raise TrainingError(f"expected classes with distinct names, got {list(request.classes)}")
    for split, images in (("train", request.train), ("validation", request.validation)):
        if images is not None and not _within(request.task.labels(images.labels), len(request.classes)):
            raise TrainingError(f"{split}: labels must be 0..{len(request.classes) - 1}, one for each class")
    counts = np.bincount(request.task.labels(request.train.labels), minlength=len(request.classes))
    missing = [name for name, found in zip(request.classes, counts, strict=True) if not found]
    if missing:
        raise TrainingError(
            f"no training sample of {', '.join(missing)}: a model cannot learn a class it never sees. "
            "Import a batch that has it, or remove the class from the project file"
        )


def _within(labels: np.ndarray, classes: int) -> bool:
    return not len(labels) or bool(labels.min() >= 0 and labels.max() < classes)
