"""A detector and a classifier as users would bring them, written against docs/training.md alone."""

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn


class TwoLayers(nn.Module):
    """A plain classifier, as the page shows it."""

    def __init__(self, num_classes, input, hidden=32):
        super().__init__()
        pixels = input.channels * input.height * input.width
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def forward(self, images):
        return self.net(images)


class OneBoxACell(lightning.LightningModule):
    """A LightningModule with a step and an optimiser of its own: one box in each cell of 8 × 8 pixels."""

    def __init__(self, num_classes: int, in_channels: int, input, width: int = 16) -> None:
        super().__init__()
        self.classes, self.rows, self.columns = num_classes, input.height // 8, input.width // 8
        layers: list[nn.Module] = []
        for channels in (in_channels, width, width):
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(width, num_classes + 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        outputs = self(images)
        wanted = torch.zeros_like(outputs)
        mask = torch.zeros_like(outputs[:, :1])
        for image, boxes in enumerate(targets.tolist()):
            for left, top, width, height, label in boxes:
                if label >= 0:
                    row = min(int((top + height / 2) / 8), self.rows - 1)
                    column = min(int((left + width / 2) / 8), self.columns - 1)
                    wanted[image, int(label), row, column] = 1.0
                    offsets = torch.tensor([left - 8 * column, top - 8 * row, width, height])
                    wanted[image, self.classes :, row, column] = offsets / 8
                    mask[image, 0, row, column] = 1.0
        scores, boxes_out = outputs[:, : self.classes], outputs[:, self.classes :]
        found = nn.functional.binary_cross_entropy_with_logits(scores, wanted[:, : self.classes])
        placed = (
            nn.functional.smooth_l1_loss(boxes_out, wanted[:, self.classes :], reduction="none") * mask
        ).sum()
        return 20 * found + placed / mask.sum().clamp(min=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)

    def decode(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores, labels = outputs[:, : self.classes].sigmoid().flatten(2).max(dim=1)
        offsets = outputs[:, self.classes :].flatten(2).permute(0, 2, 1) * 8
        cell = torch.arange(self.rows * self.columns, device=outputs.device)
        corner = torch.stack([cell % self.columns, cell // self.columns], dim=-1) * 8
        boxes = torch.cat([offsets[..., :2] + corner, offsets[..., 2:].clamp(min=0.5)], dim=-1)
        return boxes, scores, labels
