"""RT-DETRv2 and D-FINE of transformers, made from a configuration: nothing is fetched, and nothing has to be
suppressed, since each object is asked for once.
"""

import builtins
import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.d_fine import modeling_d_fine
from transformers.models.hgnet_v2 import HGNetV2Config
from transformers.models.rt_detr_v2 import modeling_rt_detr_v2

from visionops_assets.config.recipe import InputSpec
from visionops_assets.training.catalogue.adapted_detector import AdaptedDetector, in_colour, require_sides
from visionops_assets.training.catalogue.transformers_sizes import DFINE, RTDETRV2

_UNCHECKED = "TRANSFORMERS_DISABLE_TORCH_CHECK"


class TransformersDetector(AdaptedDetector):
    """A detector of transformers by its `name`; it looks for `queries` objects an image, and gives the best
    `detections`.

    `denoising` boxes beside the true ones teach it faster, at some work more. `options` are further fields of the
    model's configuration. Raises ValueError for an image side that 32 does not divide.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        input: InputSpec,
        queries: int = 300,
        detections: int = 100,
        denoising: int = 100,
        **options: Any,
    ) -> None:
        super().__init__()
        require_sides(input, 32)
        self.detections = min(detections, queries * num_classes)
        self.height, self.width = input.height, input.width
        labels = {number: str(number) for number in range(num_classes)}
        shared = {
            "num_queries": queries,
            "num_denoising": denoising,
            "anchor_image_size": [input.height, input.width],
            "id2label": labels,
            "label2id": {label: number for number, label in labels.items()},
        }
        if name in DFINE:
            backbone, fields = DFINE[name]
            made = {**fields, **shared, **options, "backbone_config": HGNetV2Config(**backbone)}
            self.net: Any = transformers.DFineForObjectDetection(transformers.DFineConfig(**made))
        else:
            backbone, fields = RTDETRV2[name]
            resnet = transformers.RTDetrResNetConfig(**backbone)
            made = {**fields, **shared, **options, "backbone_config": resnet}
            self.net = transformers.RTDetrV2ForObjectDetection(transformers.RTDetrV2Config(**made))

    @staticmethod
    def normalisation(channels: int, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Published weights take values in 0..1 as they are."""
        return (0.0,) * channels, (1.0,) * channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits [N, queries, classes], boxes as shares of the image, and the pooled features [N, D]."""
        found = self._found(images)
        return {
            "logits": found.logits,
            "boxes": found.pred_boxes,
            "pooled": found.encoder_last_hidden_state[-1].mean(dim=(2, 3)),
        }

    def training_loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """The model's own loss, which matches queries with targets float [N, M, 5] as in `detection.py`."""
        size = targets.new_tensor([self.width, self.height, self.width, self.height])
        truths = []
        for each in targets:
            there = each[each[:, 4] >= 0]
            middle = torch.cat([there[:, :2] + there[:, 2:4] / 2, there[:, 2:4]], dim=1) / size
            truths.append({"class_labels": there[:, 4].long(), "boxes": middle.clamp(0, 1)})
        loss: Tensor = self._found(images, labels=truths).loss
        return loss

    def decode(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes [N, K, 4], scores [N, K] falling, labels [N, K]."""
        scores = outputs["logits"].float().sigmoid()
        classes = scores.shape[2]
        best, places = torch.topk(scores.flatten(1), self.detections)
        rows = (places // classes)[..., None].expand(-1, -1, 4)
        middle, centre, width, height = outputs["boxes"].float().gather(1, rows).unbind(-1)
        sides = [middle - width / 2, centre - height / 2, width, height]
        limits = (self.width, self.height, self.width, self.height)
        boxes = [side * limit for side, limit in zip(sides, limits, strict=True)]
        return torch.stack(boxes, dim=-1), best, places % classes

    def _found(self, images: Tensor, **given: Any) -> Any:
        mask = torch.ones((images.shape[0], self.height, self.width), dtype=torch.long, device=images.device)
        with _traceable():
            return self.net(pixel_values=in_colour(images), pixel_mask=mask, **given)


def _rows(value: Any) -> Any:
    """`len` that stays a symbol: Python's gives a number, and the exporter takes that of the example for all."""
    return value.shape[0] if isinstance(value, Tensor) else builtins.len(value)


for _module in (modeling_d_fine, modeling_rt_detr_v2):
    vars(_module)["len"] = _rows


@contextlib.contextmanager
def _traceable() -> Iterator[None]:
    """Without checks of values that agree by how the model is made: ONNX cannot express them."""
    before = os.environ.get(_UNCHECKED)
    os.environ[_UNCHECKED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_UNCHECKED]
        else:
            os.environ[_UNCHECKED] = before
