"""One-stage detectors of torchvision: their backbone, head and loss as they are. Their transform, the anchors they make
for each batch and their post-processing, none of which can be traced, are replaced: the product's input has one size,
so anchors are made once, and what ships suppresses duplicates by itself.
"""

from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from visionops_assets.config.recipe import InputSpec
from visionops_assets.training.catalogue.adapted_detector import AdaptedDetector, in_colour
from visionops_assets.training.catalogue.suppression import suppressed

# As torchvision's coders: no box grows by more than 1000 / 16 of its anchor.
_LARGEST_LOG = 4.135166556742356
_STRIDES = (8, 16, 32, 64, 128)


class TorchvisionDetector(AdaptedDetector):
    """A detector of torchvision by its `name`: SSDlite, or FCOS or RetinaNet with a resnet and a feature pyramid.

    `detections` boxes an image at most, of which two of a class overlap by no more than `overlap`. RetinaNet's anchors
    begin at `smallest_anchor` pixels. Raises ValueError for a name that torchvision does not have.
    """

    anchors: Tensor

    def __init__(
        self,
        name: str,
        num_classes: int,
        input: InputSpec,
        detections: int = 100,
        overlap: float = 0.5,
        smallest_anchor: int = 32,
    ) -> None:
        super().__init__()
        self.family, _, rest = name.partition("_")
        self.detections, self.overlap = detections, overlap
        self.height, self.width = input.height, input.width
        if self.family == "fcos":
            anchors = AnchorGenerator(tuple((side,) for side in _STRIDES), ((1.0,),) * len(_STRIDES))
            self.net: Any = detection.FCOS(_pyramid(rest), num_classes, anchor_generator=anchors)
        elif self.family == "retinanet":
            sides = (smallest_anchor << level for level in range(len(_STRIDES)))
            octave = tuple((side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))) for side in sides)
            anchors = AnchorGenerator(octave, ((0.5, 1.0, 2.0),) * len(octave))
            self.net = detection.RetinaNet(_pyramid(rest), num_classes, anchor_generator=anchors)
        else:
            # Its class 0 is the background.
            made = {"weights": None, "weights_backbone": None, "num_classes": num_classes + 1}
            self.net = detection.__dict__[name](**made)
        self._make_anchors()

    @staticmethod
    def normalisation(channels: int, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation a channel that published weights were trained with."""
        if name.startswith("ssdlite"):
            return (0.5,) * channels, (0.5,) * channels
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        return (mean, std) if channels == 3 else ((sum(mean) / 3,), (sum(std) / 3,))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What the head says of each anchor, by name, and the pooled features [N, D], of images float [N, C, H, W]."""
        features = list(self.net.backbone(in_colour(images)).values())
        found: dict[str, Tensor] = self.net.head(features)
        return {**found, "pooled": features[1].mean(dim=(2, 3))}

    def loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        """The sum of torchvision's losses; targets float [N, M, 5] as in `detection.py`."""
        said = {name: found.float() for name, found in outputs.items() if name != "pooled"}
        truths = [self._truth(each) for each in targets]
        anchors = [self.anchors] * len(truths)
        if self.family == "retinanet":
            losses = self.net.compute_loss(truths, said, anchors)
        elif self.family == "fcos":
            losses = self.net.compute_loss(truths, said, anchors, self.places)
        else:
            losses = self.net.compute_loss(truths, said, anchors, [self._matched(each) for each in truths])
        total: Tensor = sum(losses.values(), torch.zeros((), device=targets.device))
        return total

    def decode(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes [N, K, 4], scores [N, K], labels [N, K]; duplicates have a score of 0."""
        offsets, logits = outputs["bbox_regression"].float(), outputs["cls_logits"].float()
        left, top, right, bottom = self.anchors.unbind(-1)
        width, height = right - left, bottom - top
        middle, centre = left + width / 2, top + height / 2
        if self.family == "fcos":
            before, above, behind, below = (offsets * torch.stack([width, height] * 2, dim=-1)).unbind(-1)
            corners = [middle - before, centre - above, middle + behind, centre + below]
            scores = (logits.sigmoid() * outputs["bbox_ctrness"].float().sigmoid()).sqrt()
        else:
            weights = self.net.box_coder.weights
            across, down, wider, higher = (offsets / offsets.new_tensor(weights)).unbind(-1)
            middle, centre = across * width + middle, down * height + centre
            half_width = wider.clamp(max=_LARGEST_LOG).exp() * width / 2
            half_height = higher.clamp(max=_LARGEST_LOG).exp() * height / 2
            corners = [middle - half_width, centre - half_height, middle + half_width, centre + half_height]
            is_ssd = self.family not in ("fcos", "retinanet")
            scores = logits.softmax(dim=-1)[..., 1:] if is_ssd else logits.sigmoid()
        limits = (self.width, self.height, self.width, self.height)
        inside = [side.clamp(0, limit) for side, limit in zip(corners, limits, strict=True)]
        return suppressed(
            torch.stack(inside, dim=-1), scores, detections=self.detections, overlap=self.overlap
        )

    def _make_anchors(self) -> None:
        """Make the anchors of the one size of image there is: corners [A, 4] in pixels, and how many each level has."""
        blank = torch.zeros(1, 3, self.height, self.width)
        was_training = self.net.training
        self.net.eval()
        with torch.no_grad():
            features = list(self.net.backbone(blank).values())
            images = ImageList(blank, [(self.height, self.width)])
            anchors = self.net.anchor_generator(images, features)[0]
        self.net.train(was_training)
        each = self.net.anchor_generator.num_anchors_per_location()
        self.places = [
            level.shape[-2] * level.shape[-1] * count for level, count in zip(features, each, strict=True)
        ]
        self.register_buffer("anchors", anchors.contiguous(), persistent=False)

    def _truth(self, targets: Tensor) -> dict[str, Tensor]:
        there = targets[targets[:, 4] >= 0]
        corners = torch.cat([there[:, :2], there[:, :2] + there[:, 2:4].clamp(min=1.0)], dim=1)
        first = 0 if self.family in ("fcos", "retinanet") else 1
        return {"boxes": corners, "labels": there[:, 4].long() + first}

    def _matched(self, truth: dict[str, Tensor]) -> Tensor:
        """The box that each anchor of SSD is to find, [A], -1 for none."""
        if not len(truth["boxes"]):
            return torch.full((len(self.anchors),), -1, dtype=torch.int64, device=self.anchors.device)
        overlaps = torchvision.ops.box_iou(truth["boxes"], self.anchors)
        matched: Tensor = self.net.proposal_matcher(overlaps)
        return matched


def _pyramid(name: str) -> Any:
    """A resnet with the feature pyramid that FCOS and RetinaNet share, of a name such as `resnet50_fpn`."""
    return resnet_fpn_backbone(
        backbone_name=name.removesuffix("_fpn"),
        weights=None,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
        norm_layer=nn.BatchNorm2d,
    )
