"""YOLOX, of the package pixeltable-yolox (Apache-2.0, the extra `yolox`)."""

from typing import Any

import torch
from torch import Tensor, nn

from visionops_assets.config.recipe import InputSpec
from visionops_assets.training.catalogue.adapted_detector import AdaptedDetector, in_colour, require_sides
from visionops_assets.training.catalogue.suppression import suppressed

# Depth and width of each size, as they are published.
SIZES = {
    "nano": (0.33, 0.25),
    "tiny": (0.33, 0.375),
    "s": (0.33, 0.5),
    "m": (0.67, 0.75),
    "l": (1.0, 1.0),
    "x": (1.33, 1.25),
}
_STRIDES = (8, 16, 32)
# No side is longer than e^8 strides: an untrained network would else answer with infinity.
_LARGEST_LOG = 8.0


class YoloxDetector(AdaptedDetector):
    """YOLOX of a size, which is its `name`; `detections` boxes an image at most, of which two of a class overlap by no
    more than `overlap`.

    Raises ValueError for an image side that 32 does not divide, and where the extra is not installed.
    """

    grid: Tensor
    stride: Tensor

    def __init__(
        self, name: str, num_classes: int, input: InputSpec, detections: int = 100, overlap: float = 0.5
    ) -> None:
        super().__init__()
        require_sides(input, 32)
        try:
            from yolox.models import YoloPafpn, YoloxHead
        except ImportError as error:
            raise ValueError(
                f"yolox/{name} needs the extra yolox: pip install 'visionops[yolox]' ({error})"
            ) from error
        depth, width = SIZES[name]
        depthwise = name == "nano"
        self.detections, self.overlap = detections, overlap
        # Named as in published weights.
        self.net: Any = nn.Module()
        self.net.backbone = YoloPafpn(depth, width, depthwise=depthwise)
        head: Any = YoloxHead(num_classes, width, depthwise=depthwise)
        head.decode_in_inference = False
        head.initialize_biases(1e-2)
        self.net.head = head
        for part in self.net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eps, part.momentum = 1e-3, 0.03
        places, strides = [], []
        for stride in _STRIDES:
            rows, columns = torch.arange(input.height // stride), torch.arange(input.width // stride)
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            places.append(torch.stack([x, y], dim=-1).reshape(-1, 2))
            strides.append(torch.full((len(places[-1]), 1), stride))
        self.register_buffer("grid", torch.cat(places).float(), persistent=False)
        self.register_buffer("stride", torch.cat(strides).float(), persistent=False)

    @staticmethod
    def normalisation(channels: int, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Published weights take values in 0..255 as they are."""
        return (0.0,) * channels, (1 / 255,) * channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What is said of each place [N, places, 5 + classes], and the pooled features [N, D]."""
        features = self._features(images)
        return {"said": self._head(features), "pooled": features[-1].mean(dim=(2, 3))}

    def training_loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """The model's own loss, which assigns places to targets float [N, M, 5] as in `detection.py`."""
        there = targets[..., 4] >= 0
        # It counts the rows of an image and takes the first so many of them.
        order = torch.argsort((~there).int(), dim=1, stable=True)
        truths, there = targets.gather(1, order[..., None].expand(-1, -1, 5)), there.gather(1, order)
        sides = truths[..., 2:4]
        middle, known = truths[..., :2] + sides / 2, there[..., None]
        labels = torch.cat([truths[..., 4:], middle, sides.clamp(min=1)], dim=-1) * known
        loss: Tensor = self._head(self._features(images), labels, images)[0]
        return loss

    def decode(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes [N, K, 4], scores [N, K], labels [N, K]; duplicates have a score of 0."""
        said = outputs["said"].float()
        middle = (said[..., :2] + self.grid) * self.stride
        half = said[..., 2:4].clamp(max=_LARGEST_LOG).exp() * self.stride / 2
        corners = torch.cat([middle - half, middle + half], dim=-1)
        # Already probabilities where the model is not training.
        scores = said[..., 4:5] * said[..., 5:]
        return suppressed(corners, scores, detections=self.detections, overlap=self.overlap)

    def _features(self, images: Tensor) -> Any:
        # Published weights take blue, green, red.
        return self.net.backbone(in_colour(images).flip(1))

    def _head(self, features: Any, *given: Tensor) -> Any:
        return self.net.head(features, *given)
