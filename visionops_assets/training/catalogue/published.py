"""What there is in the installed libraries, as `docs/model_table.py` writes it down and a test holds it to."""

from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from visionops_assets.config.model_catalogue import ADAPTERS, CataloguedModel
from visionops_assets.config.recipe import InputSpec
from visionops_assets.tasks.task_registry import CLASSIFICATION, DETECTION

# What tests train, export and hold to its parity.
TESTED = frozenset(
    {
        "timm/convnext_atto",
        "timm/cspresnet50",
        "timm/densenet121",
        "timm/efficientnet_lite0",
        "timm/fastvit_t8",
        "timm/ghostnet_100",
        "timm/mobilenetv3_small_050",
        "timm/mobilevit_xxs",
        "timm/regnety_002",
        "timm/repvgg_a0",
        "timm/resnet18",
        "timm/tf_efficientnet_lite0",
        "timm/vit_tiny_patch16_224",
        "torchvision/fcos_resnet18_fpn",
        "torchvision/retinanet_resnet18_fpn",
        "torchvision/ssdlite320_mobilenet_v3_large",
        "transformers/dfine_tiny",
        "yolox/nano",
    }
)
_COCO = "https://download.pytorch.org/models"
_YOLOX = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
# Where the published weights of a detector are, under which licence, and for images of which side. torchvision says no
# licence of its weights; its code is under BSD-3-Clause.
_DETECTORS: dict[str, tuple[str, str, int]] = {
    "torchvision/ssdlite320_mobilenet_v3_large": (
        f"{_COCO}/ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
        "",
        320,
    ),
    "torchvision/fcos_resnet18_fpn": ("", "", 640),
    "torchvision/fcos_resnet50_fpn": (f"{_COCO}/fcos_resnet50_fpn_coco-99b0c9b7.pth", "", 640),
    "torchvision/retinanet_resnet18_fpn": ("", "", 640),
    "torchvision/retinanet_resnet50_fpn": (f"{_COCO}/retinanet_resnet50_fpn_coco-eeacb38b.pth", "", 640),
    "transformers/rtdetrv2_tiny": ("", "", 160),
    "transformers/rtdetrv2_r18": ("PekingU/rtdetr_v2_r18vd", "apache-2.0", 640),
    "transformers/rtdetrv2_r34": ("PekingU/rtdetr_v2_r34vd", "apache-2.0", 640),
    "transformers/rtdetrv2_r50_m": ("", "", 640),
    "transformers/rtdetrv2_r50": ("PekingU/rtdetr_v2_r50vd", "apache-2.0", 640),
    "transformers/rtdetrv2_r101": ("PekingU/rtdetr_v2_r101vd", "apache-2.0", 640),
    "transformers/dfine_tiny": ("", "", 160),
    "transformers/dfine_n": ("ustc-community/dfine-nano-coco", "apache-2.0", 640),
    "transformers/dfine_s": ("ustc-community/dfine-small-coco", "apache-2.0", 640),
    "transformers/dfine_m": ("ustc-community/dfine-medium-coco", "apache-2.0", 640),
    "transformers/dfine_l": ("ustc-community/dfine-large-coco-e25", "apache-2.0", 640),
    "transformers/dfine_x": ("ustc-community/dfine-xlarge-coco", "apache-2.0", 640),
    "yolox/nano": (f"{_YOLOX}/yolox_nano.pth", "apache-2.0", 416),
    "yolox/tiny": (f"{_YOLOX}/yolox_tiny.pth", "apache-2.0", 416),
    "yolox/s": (f"{_YOLOX}/yolox_s.pth", "apache-2.0", 640),
    "yolox/m": (f"{_YOLOX}/yolox_m.pth", "apache-2.0", 640),
    "yolox/l": (f"{_YOLOX}/yolox_l.pth", "apache-2.0", 640),
    "yolox/x": (f"{_YOLOX}/yolox_x.pth", "apache-2.0", 640),
}
_LICENCES = {"torchvision": "bsd-3-clause"}
_COCO_CLASSES = 80


def names() -> list[str]:
    """Every model that may be named, sorted."""
    return sorted([*(f"timm/{name}" for name in timm.list_models()), *_DETECTORS])


def published_model(name: str, parameters: int | None) -> CataloguedModel:
    """A row of the table: what the libraries say of a model that has so many parameters."""
    family, _, rest = name.partition("/")
    if family == "timm":
        told = get_pretrained_cfg(rest)
        task, weights, side = CLASSIFICATION, told.hf_hub_id or "", int(told.input_size[-1])
        weights_licence = (told.license or "") if told.has_weights else ""
    else:
        task, (weights, weights_licence, side) = DETECTION, _DETECTORS[name]
    return CataloguedModel(
        name=name,
        task=task,
        parameters=parameters,
        licence=_LICENCES.get(family, "apache-2.0"),
        weights_licence=weights_licence,
        weights=weights,
        side=side,
        needs="yolox" if family == "yolox" else "",
        tested=name in TESTED,
    )


def parameters_of(name: str) -> int:
    """How many parameters a model has as its library makes it; nothing is computed for it."""
    family, _, rest = name.partition("/")
    with torch.device("meta" if family == "timm" else "cpu"):
        if family == "timm":
            made: nn.Module = timm.create_model(rest)
        else:
            made = _detector(family, rest, _DETECTORS[name][2])
    return sum(parameter.numel() for parameter in made.parameters())


def _detector(family: str, name: str, side: int) -> nn.Module:
    import importlib

    module, _, attribute = ADAPTERS[family].rpartition(".")
    adapter: Any = getattr(importlib.import_module(module), attribute)
    made: nn.Module = adapter(name, _COCO_CLASSES, InputSpec(height=side, width=side))
    return made
