"""The protocol that any model fits, one's own included, and the default model, a small convolutional network that
trains on a CPU in seconds.

`model.class_path` names a class or function; `model.init_args` are its keyword arguments. A plain `nn.Module` works
as it is:

    class MyNet(nn.Module):
        def __init__(self, num_classes: int, in_channels: int, width: int = 32): ...
        def forward(self, images):      # float [N, C, H, W], normalised
            return logits               # float [N, classes]

Arguments named `classes` (tuple of names), `input` (an `InputSpec`), `num_classes`, `in_channels` are filled in
where the signature has them and `init_args` does not. Optional, where the defaults do not suit:

    @classmethod
    def build(cls, classes, input, **init_args)   makes the model instead of the constructor
    loss(outputs, targets) -> scalar              default: cross-entropy; targets int64 [N]
    decode(outputs) -> probabilities [N, classes] default: softmax of the outputs
    embed(images) -> float [N, D]                 default: what the last `nn.Linear` takes
    outputs_and_embedding(images)                 what `forward` and `embed` give, where one computes the other
    training_loss(images, targets) -> scalar      for a loss that needs the targets while outputs are computed; `loss`
                                                  is then not asked for
    normalisation(channels) -> mean, std          a static method: what the model takes, where the recipe does not say;
                                                  else it is measured on the training images

A detector has no defaults for two of them (`detection.py`):

    loss(outputs, targets) -> scalar              targets float32 [N, M, 5]: left, top, width, height in pixels
of
                                                  the input, class index; -1 marks rows that only fill up
    decode(outputs) -> boxes [N, K, 4], scores [N, K] in 0..1, labels [N, K]; a score of 0 is no box

A `LightningModule` with `training_step` and `configure_optimizers` trains by its own rules on batches `(images,
targets)`; the recipe's optimiser is then not used, and it needs no `loss`. It still needs `forward`, and may have
the rest. Validation is measured here, alike for all models: its `validation_step` is not called. Images reach all
of them augmented and normalised; what ships wraps the model with that normalisation.
"""

import importlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from resources.error_family import VisionOpsError
from resources.nearest import did_you_mean
from visionops_assets.common.errors import ModelError
from visionops_assets.config.recipe import InputSpec, ModelSpec


def normalisation_of(spec: ModelSpec, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation a channel that the model a recipe names takes; None where it does not say.

    Raises ModelError where the path leads to nothing.
    """
    factory = _factory(spec.class_path)
    said = inspect.getattr_static(factory, "normalisation", None)
    if not isinstance(said, staticmethod):
        return None
    found: tuple[tuple[float, ...], tuple[float, ...]]
    found = said.__func__(channels, **_name_in_its_family(spec))
    return found


def _name_in_its_family(spec: ModelSpec) -> dict[str, str]:
    return {} if spec.name is None else {"name": spec.name.partition("/")[2]}


def build_model(spec: ModelSpec, classes: Sequence[str], input: InputSpec) -> nn.Module:
    """Make the model a recipe names.

    Raises ModelError where the path does not lead to a model or the arguments do not fit it.
    """
    factory = _factory(spec.class_path)
    offered: dict[str, object] = {
        "classes": tuple(classes),
        "input": input,
        "num_classes": len(classes),
        "in_channels": input.channels,
    }
    if hasattr(factory, "build"):
        factory = factory.build
        arguments = {"classes": offered["classes"], "input": input, **spec.init_args}
    else:
        accepted = inspect.signature(factory).parameters
        arguments = {key: value for key, value in offered.items() if key in accepted} | spec.init_args
    with told_as_of(spec.class_path):
        try:
            model = factory(**{**arguments, **_name_in_its_family(spec)})
        except (TypeError, ValueError) as error:
            raise ModelError(f"model.init_args do not fit {spec.shown}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model.class_path {spec.class_path!r} gives {type(model).__name__}, expected an nn.Module"
        )
    return model


def _factory(class_path: str) -> Callable[..., object]:
    module_name, _, name = class_path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(
            f"model.class_path {class_path!r}: cannot import {module_name!r} ({error}); "
            "install its package or put its folder on PYTHONPATH"
        ) from error
    except Exception as error:
        raise ModelError(
            f"model.class_path {class_path!r}: importing {module_name!r} fails: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, name):
        known = [each for each in dir(module) if not each.startswith("_")]
        raise ModelError(
            f"model.class_path {class_path!r}: {module_name!r} has no {name!r}{did_you_mean(name, known)}"
        )
    factory: Callable[..., object] = getattr(module, name)
    return factory


@contextmanager
def told_as_of(class_path: str) -> Iterator[None]:
    """Tell what fails within code of one's own as an error of the model that it belongs to, which keeps its traceback.

    Raises `ModelError` in place of an exception that passed through the package of `class_path`, where that is not
    ours; all others stay as they are, those of a machine too.
    """
    try:
        yield
    except (VisionOpsError, OSError):
        raise
    except Exception as error:
        package = class_path.partition(".")[0]
        passed = [
            (frame.f_code, line)
            for frame, line in traceback.walk_tb(error.__traceback__)
            if str(frame.f_globals.get("__name__")).partition(".")[0] == package
        ]
        if package == __name__.partition(".")[0] or not passed:
            raise
        code, line = passed[-1]
        raise ModelError(
            f"model.class_path {class_path!r} fails in {code.co_name} ({Path(code.co_filename).name}, line {line}): "
            f"{type(error).__name__}: {error}; --debug shows the traceback"
        ) from error


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode without gradients, and every part back as it was."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def training_loss_of(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the scalar loss of a batch by the model's own `training_loss`, else that of its outputs."""
    own = getattr(model, "training_loss", None)
    return own(images, targets) if callable(own) else loss_of(model, model(images), targets)


def loss_of(model: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the scalar loss by the model's own `loss`, else cross-entropy."""
    own = getattr(model, "loss", None)
    return own(outputs, targets) if callable(own) else functional.cross_entropy(outputs, targets)


def probabilities_of(model: nn.Module, outputs: Tensor) -> Tensor:
    """Return probabilities [N, classes] by the model's own `decode`, else softmax."""
    own = getattr(model, "decode", None)
    return own(outputs) if callable(own) else torch.softmax(outputs, dim=1)


class Shipped(nn.Module):
    """What ships: a model with its preprocessing before it and its answers after it.

    Takes uint8 [N, H, W, C], gives one tensor for each name of `outputs`; the last is the embedding, float [N, D].
    `mean` and `std` [C] are on the scale 0..1 and part of the weights. Raises ModelError where the model does not
    fit: it is tried on two blank images.
    """

    task: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]]
    # What takes the penultimate features, and what of the outputs parity compares, in words.
    heads: ClassVar[tuple[type[nn.Module], ...]]
    compared: ClassVar[str]

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, classes: Sequence[str], input: InputSpec) -> None:
        super().__init__()
        self.model = model
        self.classes = tuple(classes)
        self.input = input
        self.register_buffer("mean", torch.tensor(input.mean or [0.0] * input.channels))
        self.register_buffer("std", torch.tensor(input.std or [1.0] * input.channels))
        self._penultimate = self._tried_out()

    def normalise(self, images: Tensor) -> Tensor:
        """Return float images [N, C, H, W] in 0..1 as the model takes them."""
        return (images - self.mean[:, None, None]) / self.std[:, None, None]

    def prepared(self, pixels: Tensor) -> Tensor:
        """Return decoded images uint8 [N, H, W, C] as the model takes them."""
        return self.normalise(pixels.permute(0, 3, 1, 2).float() / 255.0)

    def answers(self, outputs: Any) -> tuple[Tensor, ...]:
        """Return what the outputs of the model say, without the embedding."""
        raise NotImplementedError

    def check_answers(self, answers: tuple[Tensor, ...]) -> None:
        """Raise ModelError unless the answers for two images have the shape of the protocol."""
        raise NotImplementedError

    def differences(
        self, found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]
    ) -> tuple[float, int]:
        """Return the largest difference of two runs' answers, and the number of images of the same first class."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        normalised = self.prepared(images)
        own_embedding: Callable[[Tensor], Tensor] | None = getattr(self.model, "embed", None)
        both: Callable[[Tensor], tuple[Any, Tensor]] | None = getattr(
            self.model, "outputs_and_embedding", None
        )
        if both is not None:
            outputs, embedding = both(normalised)
        elif own_embedding is None:
            outputs, embedding = self._with_penultimate(normalised)
        else:
            outputs, embedding = self.model(normalised), own_embedding(normalised)
        return (*self.answers(outputs), embedding)

    def _with_penultimate(self, normalised: Tensor) -> tuple[Any, Tensor]:
        if self._penultimate is None:
            outputs = self.model(normalised)
            return outputs, outputs.flatten(1)
        taken: list[Tensor] = []
        layer = self.model.get_submodule(self._penultimate)
        hook = layer.register_forward_pre_hook(lambda _, arguments: taken.append(arguments[0]))
        try:
            outputs = self.model(normalised)
        finally:
            hook.remove()
        features = taken[-1]
        if isinstance(layer, nn.Conv2d):
            return outputs, features.mean(dim=(2, 3))
        # A layer over tokens takes [N, T, D]; their mean is one vector an image.
        return outputs, features if features.ndim == 2 else features.flatten(1, -2).mean(dim=1)

    def _tried_out(self) -> str | None:
        """Try the model on two blank images; the name of the last of `heads` that runs, None where it has none."""
        last: list[str] = []
        model, spec = self.model, self.input
        names = {part: name for name, part in model.named_modules() if isinstance(part, self.heads)}
        hooks = [part.register_forward_pre_hook(lambda part, _: last.append(names[part])) for part in names]
        blank = torch.zeros(2, spec.channels, spec.height, spec.width)
        try:
            with evaluating(model):
                answers = self.answers(model(blank))
        except Exception as error:
            raise ModelError(
                f"{type(model).__name__} fails on images of shape {tuple(blank.shape)} (input of the recipe): "
                f"{type(error).__name__}: {error}"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        self.check_answers(answers)
        return last[-1] if last else None


def largest_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest absolute difference; infinite where shapes differ or a number is not finite."""
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.abs(found - expected).max(initial=0.0))


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]


class SmallConvNet(nn.Module):
    """Convolutions that halve the image until its shorter side is at most 4, then two linear layers.

    Channels double at each halving up to `max_width`. The last map is flattened, not averaged: where something
    stands matters on small images. `embedding` is the size of the penultimate layer.
    """

    def __init__(
        self,
        num_classes: int,
        input: InputSpec,
        width: int = 32,
        max_width: int = 128,
        embedding: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if width < 1 or embedding < 1 or not 0 <= dropout < 1:
            raise ValueError("expected width and embedding of at least 1 and dropout in [0, 1)")
        height, breadth, channels = input.height, input.width, width
        layers = _block(input.channels, channels) + _block(channels, channels)
        while min(height, breadth) > 4:
            wider = min(2 * channels, max_width)
            layers += [nn.MaxPool2d(2), *_block(channels, wider)]
            height, breadth, channels = height // 2, breadth // 2, wider
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.embedding = nn.Sequential(
            nn.Linear(channels * height * breadth, embedding), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(embedding, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of images float [N, C, H, W]."""
        found: Tensor = self.head(self.embedding(self.features(images)))
        return found
