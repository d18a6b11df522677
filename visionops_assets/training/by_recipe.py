"""How a plain `nn.Module` trains under Lightning, by the recipe's optimiser and schedule."""

import lightning.pytorch as lightning
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from visionops_assets.config.recipe import Optimiser
from visionops_assets.training.errors import ModelError
from visionops_assets.training.protocol import loss_of

_TRAINING_HOOKS = ("training_step", "configure_optimizers")


class TrainedByRecipe(lightning.LightningModule):
    """Trains `model` on batches of images float [n, C, H, W] and targets."""

    def __init__(self, model: nn.Module, optimiser: Optimiser) -> None:
        super().__init__()
        self.model, self.optimiser = model, optimiser

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.model(images)
        return found

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        return loss_of(self.model, self.model(images), targets)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        declared = self.optimiser
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
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
        if declared.schedule == "none":
            return optimiser
        steps = int(self.trainer.estimated_stepping_batches)
        schedule: LRScheduler
        if declared.schedule == "onecycle":
            schedule = OneCycleLR(optimiser, max_lr=declared.lr, total_steps=steps)
        else:
            schedule = CosineAnnealingLR(optimiser, T_max=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def as_lightning(model: nn.Module, optimiser: Optimiser) -> lightning.LightningModule:
    """Return the module the Trainer fits: the model itself where it brings its own training, else `TrainedByRecipe`.

    Raises ModelError for a LightningModule with half of what training needs.
    """
    if not isinstance(model, lightning.LightningModule):
        return TrainedByRecipe(model, optimiser)
    missing = [name for name in _TRAINING_HOOKS if not is_overridden(name, model, lightning.LightningModule)]
    if not missing:
        return model
    if len(missing) == len(_TRAINING_HOOKS):
        return TrainedByRecipe(model, optimiser)
    raise ModelError(
        f"{type(model).__name__} is a LightningModule without {missing[0]}: "
        "define training_step and configure_optimizers, or neither to train by the recipe"
    )
