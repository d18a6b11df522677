"""The default detector: small, without anchors, trained on a CPU in a minute.

Objects are points (Zhou, Wang, Krähenbühl, "Objects as Points", 2019): a map of class scores whose local maxima are
the centres, so nothing has to be suppressed afterwards, and beside it the box of each place.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from visionops_assets.config.recipe import InputSpec

STRIDE = 4
# The share of places that hold a centre is small: scores start there instead of at a half.
_PRIOR_LOGIT = -4.0


def _block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def _widen(channels_in: int, channels_out: int) -> nn.Sequential:
    """Twice the resolution. Pixels are shuffled, not interpolated: bilinear upsampling has no deterministic form on a
    GPU."""
    return nn.Sequential(nn.Conv2d(channels_in, 4 * channels_out, 1), nn.PixelShuffle(2))


class SmallDetector(nn.Module):
    """Scores and boxes on a grid of one place in four pixels each way; the best `detections` boxes an image.

    A place sees 63 pixels around it; each of `levels` beyond the first more than doubles that (151, 327, …), at a
    tenth more work. Raises ValueError for an image side that 4 · 2^levels does not divide.
    """

    def __init__(
        self,
        num_classes: int,
        input: InputSpec,
        width: int = 16,
        detections: int = 20,
        levels: int = 1,
    ) -> None:
        super().__init__()
        if width < 1 or detections < 1 or levels < 1:
            raise ValueError("expected width, detections and levels of at least 1")
        step = STRIDE << levels
        if input.height % step or input.width % step:
            raise ValueError(f"expected input sides that {step} divides, got {input.height} × {input.width}")
        self.classes = num_classes
        self.rows, self.columns = input.height // STRIDE, input.width // STRIDE
        self.detections = min(detections, num_classes * self.rows * self.columns)
        self.fine = nn.Sequential(
            _block(input.channels, width, 2), _block(width, 2 * width, 2), _block(2 * width, 2 * width)
        )
        self.coarse = nn.Sequential(
            _block(2 * width, 4 * width, 2), _block(4 * width, 4 * width), _block(4 * width, 4 * width)
        )
        self.widen = _widen(4 * width, 2 * width)
        self.join = _block(4 * width, 4 * width)
        self.head = nn.Conv2d(4 * width, num_classes + 4, 1)
        nn.init.zeros_(self.head.weight[num_classes:])
        start = torch.tensor([_PRIOR_LOGIT] * num_classes + [0.0, 0.0, 1.0, 1.0])
        self.head.bias = nn.Parameter(start)
        # Each level looks at half the resolution, and what it saw is added where it came from.
        self.narrow, self.regain = nn.ModuleList(), nn.ModuleList()
        for _ in range(levels - 1):
            blocks = [_block(4 * width, 4 * width, stride) for stride in (2, 1, 1)]
            self.narrow.append(nn.Sequential(*blocks))
            self.regain.append(_widen(4 * width, 4 * width))

    def forward(self, images: Tensor) -> Tensor:
        """Return [N, classes + 4, H/4, W/4] of images float [N, C, H, W].

        The last four: centre to the right of and below the middle of its place, in places; logarithms of width and
        height in places.
        """
        fine = self.fine(images)
        maps = [self.coarse(fine)]
        for narrow in self.narrow:
            maps.append(narrow(maps[-1]))
        coarse = maps.pop()
        for regain in reversed(self.regain):
            coarse = maps.pop() + regain(coarse)
        found: Tensor = self.head(self.join(torch.cat([fine, self.widen(coarse)], dim=1)))
        return found

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Penalty-reduced focal loss of the centres, and L1 loss of the boxes; targets as in `detection.py`."""
        outputs = outputs.float()
        present = targets[..., 4] >= 0
        across = (targets[..., 0] + targets[..., 2] / 2) / STRIDE
        down = (targets[..., 1] + targets[..., 3] / 2) / STRIDE
        size = targets[..., 2:4].clamp(min=1.0) / STRIDE
        column = across.floor().clamp(0, self.columns - 1)
        row = down.floor().clamp(0, self.rows - 1)
        count = present.sum().clamp(min=1)
        heat = self._heat(targets[..., 4].long(), row, column, size)
        scores = self._focal(outputs[:, : self.classes], heat).sum() / count

        # Of an absent box the place is within the map, and what it costs is left out below.
        place = (row * self.columns + column).long()[:, None].expand(-1, 4, -1)
        found = outputs[:, self.classes :].flatten(2).gather(2, place).transpose(1, 2)
        wanted = torch.stack(
            [across - column - 0.5, down - row - 0.5, size[..., 0].log(), size[..., 1].log()], dim=-1
        )
        boxes = functional.smooth_l1_loss(found, wanted, reduction="none", beta=0.1).sum(dim=-1)
        return scores + (boxes * present).sum() / count

    def _heat(self, labels: Tensor, row: Tensor, column: Tensor, size: Tensor) -> Tensor:
        """How near each place is to a centre of each class, 1 at the centre: [N, classes, H, W] of boxes [N, M].

        Box after box: all at once took a map for every box and class.
        """
        heat = row.new_zeros(len(labels), self.classes, self.rows, self.columns)
        images = torch.arange(len(labels), device=labels.device)
        dx = torch.arange(self.columns, device=row.device) - column[..., None]
        dy = torch.arange(self.rows, device=row.device) - row[..., None]
        spread = 2 * (size / 6).clamp(min=0.35) ** 2
        across, down = torch.exp(-(dx**2) / spread[..., :1]), torch.exp(-(dy**2) / spread[..., 1:])
        for number in range(labels.shape[1]):
            label = labels[:, number]
            near = down[:, number, :, None] * across[:, number, None, :] * (label >= 0)[:, None, None]
            place = (images, label.clamp(min=0))
            heat[place] = torch.maximum(heat[place], near)
        return heat

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
