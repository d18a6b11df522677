"""The default detector: small, without anchors, trained on a CPU in a minute.

Objects are points (Zhou, Wang, Krähenbühl, "Objects as Points", 2019): a map of class scores whose local maxima are
the centres, so nothing has to be suppressed afterwards, and beside it the box of each place.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from visionops_assets.training.recipe import InputSpec

STRIDE = 4
# The share of places that hold a centre is small: scores start there instead of at a half.
_PRIOR_LOGIT = -4.0


def _block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class SmallDetector(nn.Module):
    """Scores and boxes on a grid of one place in four pixels each way; the best `detections` boxes an image.

    Raises ValueError for an image side that 8 does not divide.
    """

    def __init__(
        self,
        num_classes: int,
        input: InputSpec,
        width: int = 16,
        detections: int = 20,
    ) -> None:
        super().__init__()
        if input.height % 8 or input.width % 8:
            raise ValueError(f"expected input sides that 8 divides, got {input.height} × {input.width}")
        self.classes = num_classes
        self.rows, self.columns = input.height // STRIDE, input.width // STRIDE
        self.detections = min(detections, num_classes * self.rows * self.columns)
        self.fine = nn.Sequential(
            _block(input.channels, width, 2), _block(width, 2 * width, 2), _block(2 * width, 2 * width)
        )
        self.coarse = nn.Sequential(
            _block(2 * width, 4 * width, 2), _block(4 * width, 4 * width), _block(4 * width, 4 * width)
        )
        # Pixels are shuffled, not interpolated: bilinear upsampling has no deterministic form on a GPU.
        self.widen = nn.Sequential(nn.Conv2d(4 * width, 8 * width, 1), nn.PixelShuffle(2))
        self.join = _block(4 * width, 4 * width)
        self.head = nn.Conv2d(4 * width, num_classes + 4, 1)
        nn.init.zeros_(self.head.weight[num_classes:])
        start = torch.tensor([_PRIOR_LOGIT] * num_classes + [0.0, 0.0, 1.0, 1.0])
        self.head.bias = nn.Parameter(start)

    def forward(self, images: Tensor) -> Tensor:
        """Return [N, classes + 4, H/4, W/4] of images float [N, C, H, W].

        The last four: centre to the right of and below the middle of its place, in places; logarithms of width and
        height in places.
        """
        fine = self.fine(images)
        return self.head(self.join(torch.cat([fine, self.widen(self.coarse(fine))], dim=1)))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Penalty-reduced focal loss of the centres, and L1 loss of the boxes; targets as in `boxes.py`."""
        outputs = outputs.float()
        present = targets[..., 4] >= 0
        across = (targets[..., 0] + targets[..., 2] / 2) / STRIDE
        down = (targets[..., 1] + targets[..., 3] / 2) / STRIDE
        size = targets[..., 2:4].clamp(min=1.0) / STRIDE
        column = across.floor().clamp(0, self.columns - 1)
        row = down.floor().clamp(0, self.rows - 1)
        dx = torch.arange(self.columns, device=outputs.device) - column[..., None]
        dy = torch.arange(self.rows, device=outputs.device) - row[..., None]
        spread = (size / 6).clamp(min=0.35)
        near = (
            torch.exp(-(dy**2) / (2 * spread[..., 1:] ** 2))[..., :, None]
            * (torch.exp(-(dx**2) / (2 * spread[..., :1] ** 2))[..., None, :])
        )
        near = near * present[..., None, None]
        count = present.sum().clamp(min=1)
        heat = torch.stack(
            [
                torch.where((targets[..., 4] == number)[..., None, None], near, 0.0).amax(dim=1)
                for number in range(self.classes)
            ],
            dim=1,
        )
        scores = self._focal(outputs[:, : self.classes], heat).sum() / count

        here = ((dy[..., :, None] == 0) & (dx[..., None, :] == 0) & present[..., None, None]).float()
        found = torch.einsum("nmhw,nkhw->nmk", here, outputs[:, self.classes :])
        wanted = torch.stack(
            [across - column - 0.5, down - row - 0.5, size[..., 0].log(), size[..., 1].log()], dim=-1
        )
        boxes = functional.smooth_l1_loss(found, wanted, reduction="none", beta=0.1).sum(dim=-1)
        return scores + (boxes * present).sum() / count

    @staticmethod
    def _focal(logits: Tensor, heat: Tensor) -> Tensor:
        probability = torch.sigmoid(logits)
        centre = -((1 - probability) ** 2) * functional.logsigmoid(logits)
        elsewhere = -((1 - heat) ** 4) * probability**2 * functional.logsigmoid(-logits)
        return torch.where(heat == 1.0, centre, elsewhere)

    def decode(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes [N, K, 4], scores [N, K] falling, labels [N, K]: the local maxima of the scores."""
        outputs = outputs.float()
        scores = torch.sigmoid(outputs[:, : self.classes])
        peaks = scores * (scores == functional.max_pool2d(scores, 3, stride=1, padding=1)).float()
        best, places = torch.topk(peaks.flatten(1), self.detections)
        area = self.rows * self.columns
        labels, place = places // area, places % area
        geometry = outputs[:, self.classes :].flatten(2)
        offset_x, offset_y, log_width, log_height = (
            geometry[:, number].gather(1, place) for number in range(4)
        )
        width, height = log_width.clamp(max=8).exp() * STRIDE, log_height.clamp(max=8).exp() * STRIDE
        x = ((place % self.columns).float() + 0.5 + offset_x) * STRIDE - width / 2
        y = ((place // self.columns).float() + 0.5 + offset_y) * STRIDE - height / 2
        return torch.stack([x, y, width, height], dim=-1), best, labels
