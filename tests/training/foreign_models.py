"""Models as a user would bring them: written against the protocol's text alone."""

import lightning.pytorch as lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from visionops_assets.config.recipe import InputSpec


class PlainNet(nn.Module):
    """A plain module: a constructor with `num_classes` and a forward."""

    def __init__(self, num_classes: int, in_channels: int, width: int = 8) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, width, 3, padding=1)
        self.drop = nn.Dropout(0.2)
        self.hidden = nn.Linear(width * 16, 12)
        self.out = nn.Linear(12, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.max_pool2d(self.convolution(images).relu(), 2).flatten(1)
        return self.out(self.drop(self.hidden(features).relu()))


class Flat(nn.Module):
    """One linear layer: what it learns is a sum over its batches, and nothing is drawn."""

    def __init__(self, num_classes: int, input: InputSpec) -> None:
        super().__init__()
        self.out = nn.Linear(input.channels * input.height * input.width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(images.flatten(1))


class Normed(nn.Module):
    """A convolution and a batch norm, whose statistics are those of what it saw."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.out = nn.Linear(6, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.norm(self.conv(images)).relu().amax(dim=(2, 3)))


class WithEverything(nn.Module):
    """Builds itself, and brings loss, decoding and embedding: one sigmoid a class."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 20), nn.ReLU())
        self.head = nn.Linear(20, classes)

    @classmethod
    def build(cls, classes: tuple[str, ...], input: object, **init_args: object) -> "WithEverything":
        return cls(len(classes), input.channels)  # type: ignore[attr-defined]

    def embed(self, images: Tensor) -> Tensor:
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = nn.functional.one_hot(targets, outputs.shape[1]).float()
        return nn.functional.binary_cross_entropy_with_logits(outputs, wanted)

    def decode(self, outputs: Tensor) -> Tensor:
        positive = outputs.sigmoid()
        return positive / positive.sum(dim=1, keepdim=True)


class OwnLightning(lightning.LightningModule):
    """A LightningModule with its own step, optimiser, epoch schedule, logging and dropout."""

    def __init__(self, num_classes: int, rate: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        loss = nn.functional.cross_entropy(self(images), targets)
        self.log("my_loss", loss)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimiser = torch.optim.SGD(self.parameters(), lr=self.hparams["rate"], momentum=0.9)
        return {
            "optimizer": optimiser,
            "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimiser, step_size=1, gamma=0.7),
        }


class HalfLightning(lightning.LightningModule):
    """Forgot configure_optimizers."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self(batch[0]).sum()


class WrongWidth(nn.Module):
    """Gives two numbers an image whatever the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class DividesByZero(PlainNet):
    """Its loss is not a number."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum() * torch.nan


class BranchesOnValues(PlainNet):
    """Cannot be traced: what it computes depends on the pixels."""

    def forward(self, images: Tensor) -> Tensor:
        if images.sum() > 0:
            return super().forward(images)
        return super().forward(-images)


class ForgetsInTraining(PlainNet):
    """Looks for what is not there, at the first step of a training."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum() * {"known": 1.0}["forgotten"]


class ForgetsWhenMade(PlainNet):
    """Looks for what is not there as it is made."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        self.width = {"known": 1}["forgotten"]


class ForgetsInForward(PlainNet):
    """Looks for what is not there in each image."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * {"known": 1}["forgotten"]


class OwnStepForgets(OwnLightning):
    """A LightningModule whose own step looks for what is not there."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return {"known": torch.zeros(())}["forgotten"]


class CountsImages(PlainNet):
    """Works for the number of images alone that it is traced with."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.zeros(len(images), 1)


def a_function(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))


def no_model() -> str:
    return "not a model"
