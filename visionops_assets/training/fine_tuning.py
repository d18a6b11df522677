"""What a recipe's training does beyond one rate for all weights: given weights kept for some epochs, rates by layer,
losses that weigh, averages; and what of it a model or a task cannot have.

All of it follows from the recipe, the epoch and the step, so that a training taken up again goes on alike.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning.pytorch as lightning
import numpy as np
from lightning.pytorch.callbacks import WeightAveraging
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from visionops_assets.common.errors import ModelError, TrainingError
from visionops_assets.config.recipe import Optimiser, Recipe
from visionops_assets.config.recipe_parts import asked_for, why_not_learnt
from visionops_assets.config.training_rules import Averaging, FineTuning, Loss
from visionops_assets.training.models import evaluating


def refuse_what_does_not_fit(
    recipe: Recipe, model: nn.Module, own_training: bool, one_class_each: bool
) -> None:
    """Raise where a recipe asks for what this model or task cannot have; nothing that is asked for is ignored.

    `own_training` says that the model is a LightningModule that trains by its own rules, `one_class_each` that targets
    are class indices.
    """
    asked = asked_for(recipe)
    kind = type(model).__name__
    if own_training and asked:
        raise ModelError(
            f"{kind} is a LightningModule that trains by its own rules, so {', '.join(asked)} would be ignored: remove "
            "them, or training_step and configure_optimizers"
        )
    if why_not := why_not_learnt(recipe, one_class=one_class_each, boxes=not one_class_each):
        raise TrainingError(why_not)
    own = next((name for name in ("training_loss", "loss") if callable(getattr(model, name, None))), None)
    wrong = [name for name, needs in asked.items() if needs == "classes" and name != "sampler"]
    if own is not None and wrong:
        raise ModelError(
            f"{kind}.{own} takes hard targets by its own rules, so {', '.join(wrong)} cannot be: remove it"
        )


def balanced_weights(labels: NDArray[np.int64], classes: int) -> tuple[float, ...]:
    """A weight a class: the inverse of its share, such that all images together weigh what they did."""
    counts = np.bincount(labels, minlength=classes)
    return tuple(len(labels) / (classes * int(count)) for count in counts)


def weighed_loss(outputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """Cross-entropy as a recipe weighs it.

    Targets int64 [N], or of mixed images float [N, 3]: a class, the other's class, and the share of the first.
    """
    assert not isinstance(loss.class_weights, str)
    weights = None if loss.class_weights is None else outputs.new_tensor(loss.class_weights)
    entropy = partial(functional.cross_entropy, outputs, weight=weights, label_smoothing=loss.label_smoothing)
    if targets.ndim == 1:
        return entropy(targets)
    own, other, share = targets[:, 0].long(), targets[:, 1].long(), targets[:, 2].to(outputs.dtype)
    total = (share * entropy(own, reduction="none") + (1 - share) * entropy(other, reduction="none")).sum()
    if weights is None:
        return total / len(targets)
    found: Tensor = total / (share * weights[own] + (1 - share) * weights[other]).sum()
    return found


def rated_parameters(
    model: nn.Module, optimiser: Optimiser, tuning: FineTuning, fresh: frozenset[str]
) -> list[dict[str, Any]]:
    """The trainable parameters in groups of one learning rate, slowest first; one group where all learn alike.

    `fresh` names what the head's multiplier is for. Layers are those that timm tells of its models, and for others
    their parameters in the order in which they were declared.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if tuning.layer_decay == 1 and tuning.head_multiplier == 1:
        return [{"params": [parameter for _, parameter in named]}]
    scales = {name: 1.0 for name, _ in named}
    if tuning.layer_decay < 1:
        depths = _depths(model, [name for name, _ in named])
        deepest = max(depths.values())
        scales = {name: tuning.layer_decay ** (deepest - depths[name]) for name, _ in named}
    for name in scales.keys() & fresh:
        scales[name] = tuning.head_multiplier
    return [
        {
            "params": [parameter for name, parameter in named if scales[name] == scale],
            "lr": optimiser.lr * scale,
        }
        for scale in sorted(set(scales.values()))
    ]


def _depths(model: nn.Module, names: Sequence[str]) -> dict[str, int]:
    """How deep each parameter's layer is, counted from the images."""
    net: Any = getattr(model, "net", None)
    if callable(getattr(net, "group_matcher", None)):
        from timm.models import group_parameters

        layers = group_parameters(net, net.group_matcher(coarse=False), reverse=True)
        return {name: int(layers[name.removeprefix("net.")]) for name in names}
    # A layer is what holds parameters itself: a convolution, a norm.
    order: dict[str, int] = {}
    for name in names:
        order.setdefault(name.rpartition(".")[0], len(order))
    return {name: order[name.rpartition(".")[0]] for name in names}


def warmed_up(schedule: str, warmup: int, steps: int) -> Callable[[int], float]:
    """The share of the learning rate at each step: rises for `warmup` steps, then stays, or falls as a cosine."""

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if schedule == "none":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return share


class Frozen(lightning.Callback):
    """Keeps all but what is `fresh` as it was for the first epochs; its norms keep their statistics too."""

    def __init__(self, model: nn.Module, epochs: int, fresh: frozenset[str]) -> None:
        self.model, self.epochs = model, epochs
        self._kept = [
            parameter
            for name, parameter in model.named_parameters()
            if name not in fresh and parameter.requires_grad
        ]
        self._parts = [
            part
            for path, part in model.named_modules()
            if not any(name.startswith(f"{path}." if path else "") for name in fresh)
        ]

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        frozen = trainer.current_epoch < self.epochs
        for parameter in self._kept:
            parameter.requires_grad_(not frozen)
        if frozen or trainer.current_epoch == self.epochs:
            for part in self._parts:
                part.train(not frozen)


class AveragedWeights(WeightAveraging):
    """The average that validation sees and that ships.

    Of swa, batch norms have the statistics of the training images as the average sees them, not the mean of those that
    other weights saw (Izmailov et al. 2018, section 3.2); `plain` gives these images, normalised and not augmented.
    """

    def __init__(self, declared: Averaging, plain: Callable[[], Iterator[Tensor]]) -> None:
        self._plain = plain
        moving: dict[str, Any] = {"avg_fn": _moving(declared.decay)} if declared.name == "ema" else {}
        super().__init__(**moving)
        self.declared, self._epoch = declared, 0

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        if self.declared.name == "swa":
            return epoch_idx is not None and epoch_idx + 1 >= self.declared.from_epoch
        return step_idx is not None and self._epoch + 1 >= self.declared.from_epoch

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._epoch = trainer.current_epoch

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Left to `take`: a training that was killed behind its last epoch does not come by here again."""

    def take(self, module: lightning.LightningModule) -> None:
        """Make the average the weights, at the end of a training."""
        assert self._average_model is not None
        if int(self._average_model.n_averaged):
            self._copy_average_to_current(module)
            self._measure_norms(module)

    @contextmanager
    def in_place(self, module: lightning.LightningModule) -> Iterator[None]:
        """Put the average in the place of the weights, and these back; before there is one, nothing changes."""
        assert self._average_model is not None
        if not int(self._average_model.n_averaged):
            yield
            return
        self._swap_models(module)
        try:
            self._measure_norms(module)
            yield
        finally:
            self._swap_models(module)

    def _measure_norms(self, module: lightning.LightningModule) -> None:
        """The same images give the same statistics, whatever was there before: a training that is taken up again goes
        on alike."""
        norms = [
            part
            for part in module.modules()
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
        ]
        if self.declared.name != "swa" or not norms:
            return
        momenta = [norm.momentum for norm in norms]
        with evaluating(module):
            for norm in norms:
                norm.reset_running_stats()
                # None is the mean over all batches.
                norm.momentum = None
                norm.train()
            for images in self._plain():
                module(images.to(module.device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _moving(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    def average(averaged: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
        # Nearer to the weights in the first steps, which the average would else hardly leave.
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return averaged * kept + current * (1 - kept)

    return average
