"""A small residual network; a project names it as `own_model.ResidualNet`."""

from typing import Any

import torch
from torch import nn


class _Block(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(features + self.layers(features))


class ResidualNet(nn.Module):
    """A stem, residual blocks, one linear layer over all places.

    `forward` takes float images `[N, C, H, W]`, normalised, and gives logits `[N, classes]`.
    """

    def __init__(self, num_classes: int, input: Any, width: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(input.channels, width, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))
        self.head = nn.Linear(width * input.height * input.width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(torch.relu(self.stem(images))).flatten(1))
