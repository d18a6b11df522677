"""A backbone of timm as a classifier."""

import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

import timm
from timm.models import get_pretrained_cfg, model_entrypoint
from torch import Tensor, nn

from resources.nearest import did_you_mean
from visionops_assets.config.recipe import InputSpec

# What the product decides, or what would fetch weights that nobody pinned.
_DECIDED = (
    "pretrained",
    "pretrained_cfg",
    "checkpoint_path",
    "num_classes",
    "in_chans",
    "img_size",
    "cache_dir",
)
_NET = "net."
# As Python says it of a class or a function.
_UNKNOWN_ARGUMENT = re.compile(
    r"(?P<made>\w+)(\.__init__)?\(\) got an unexpected keyword argument '(?P<argument>\w+)'"
)


class TimmClassifier(nn.Module):
    """A model of timm by its `name`; `options` are what `timm.create_model` takes besides, such as `drop_rate`.

    Raises ValueError for an option that is not its user's, or that the model does not take.
    """

    def __init__(self, name: str, num_classes: int, input: InputSpec, **options: Any) -> None:
        super().__init__()
        self.name = name
        for option in _DECIDED:
            if option in options:
                raise ValueError(
                    f"{option} is not given to timm/{name}: classes and input say it, and weights are pinned by "
                    "model.init_weights"
                )
        made = {"num_classes": num_classes, "in_chans": input.channels, **options}
        if _is_of_one_size(name):
            made["img_size"] = (input.height, input.width)
        try:
            self.net: Any = timm.create_model(name, pretrained=False, **made)
        except TypeError as error:
            raise ValueError(f"{error}{_meant(name, str(error))}") from error

    def as_own(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Given tensors as this model has them, by what timm itself does to published files: names of former releases,
        positions and patches of images of another size. Empty where it cannot do anything with them."""
        become = getattr(sys.modules[model_entrypoint(self.name).__module__], "checkpoint_filter_fn", None)
        if become is None:
            return {}
        plain = {name.removeprefix(_NET): tensor.clone() for name, tensor in given.items()}
        try:
            return {f"{_NET}{name}": tensor for name, tensor in become(plain, self.net).items()}
        except Exception:  # Of whatever kind: it is made for files of its own model.
            return {}

    @staticmethod
    def normalisation(channels: int, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation a channel that the published weights of a model were trained with."""
        published = get_pretrained_cfg(name)
        return tuple(_for(channels, published.mean)), tuple(_for(channels, published.std))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of images float [N, C, H, W]."""
        found: Tensor = self.net(images)
        return found

    def outputs_and_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [N, classes] and pooled features [N, D]."""
        features = self.net.forward_features(images)
        return self.net.forward_head(features), self.net.forward_head(features, pre_logits=True)


def _is_of_one_size(name: str) -> bool:
    """Whether a model is made for images of one size, which it is then told."""
    return bool(get_pretrained_cfg(name).fixed_input_size)


def _meant(name: str, said: str) -> str:
    """The argument that was meant by one that the class of a model does not take, as `; did you mean drop_rate?`."""
    wrong = _UNKNOWN_ARGUMENT.search(said)
    made = wrong and getattr(sys.modules[model_entrypoint(name).__module__], wrong["made"], None)
    if not wrong or made is None:
        return ""
    takes = [each for each in inspect.signature(made).parameters if each not in _DECIDED]
    return did_you_mean(wrong["argument"], takes, f"; it takes {', '.join(takes)}")


def _for(channels: int, values: tuple[float, ...]) -> tuple[float, ...]:
    """One value a channel: a grey image has the mean of the three."""
    return values if channels == len(values) else (sum(values) / len(values),) * channels
