"""The recipe: everything a project decides about a training, as a validated model.

Light on purpose (pydantic and YAML only): the project file is read wherever definitions load.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from visionops_assets.config.model_catalogue import adapter_of
from visionops_assets.config.section import Section

_ON_THE_HUB = re.compile(r"hf://[^/@]+/[^/@]+@[0-9a-f]{40}/.+")
DEFAULT_MODEL = "visionops_assets.training.models.SmallConvNet"


class _GrownSection(Section):
    """A part of a recipe of which fields came `later`. They are left out of what is written where they have their
    default: recipes of before keep their digest, and recorded code of before reads them.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        for name in self._unsaid():
            content.pop(name, None)
        return content

    def _unsaid(self) -> Iterator[str]:
        for name in self.later:
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                yield name


def _dotted(path: str) -> str:
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"expected a dotted path such as 'my_package.my_module.MyModel', got {path!r}")
    return path


class InputSpec(Section):
    """Size of the decoded image a model takes, how it is reached, and how values are normalised.

    `fit` keeps the aspect ratio and pads, `stretch` does not. `mean` and `std` (one value a channel, on the
    scale 0..1) are measured on the training images when absent; give them with pretrained weights.
    """

    height: int = Field(ge=4, le=4096, description="in pixels")
    width: int = Field(ge=4, le=4096, description="in pixels")
    channels: Literal[1, 3] = Field(3, description="1 grey, 3 RGB")
    resize: Literal["fit", "stretch"] = Field(
        "fit", description="fit keeps the aspect ratio and pads, stretch does not"
    )
    mean: tuple[float, ...] | None = Field(
        None, description="one value a channel, on the scale 0..1; none: measured on the training images"
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(None, description="likewise")

    @model_validator(mode="after")
    def _normalisation_fits(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together or not at all")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise ValueError(f"{name} needs {self.channels} value(s), one a channel, got {len(values)}")
        return self


class InitWeights(_GrownSection):
    """Weights to start from: where they are, what they must hash to, and under which licence they came.

    `visionops weights fetch NAME` writes this part for a model of the catalogue. They are fetched once and kept in the
    artifact store.
    """

    later: ClassVar[frozenset[str]] = frozenset({"converted_from"})

    uri: str = Field(
        min_length=1,
        description="a safetensors file: a path, `file://`, `s3://`, `https://` or `hf://OWNER/NAME@REVISION/FILE`",
    )
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="what the safetensors file must hash to")
    licence: str = Field(min_length=1, description="under which licence it came")
    converted_from: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="where `uri` is a PyTorch file (.pth): what that must hash to; it is converted once",
    )

    @model_validator(mode="after")
    def _is_pinned(self) -> Self:
        if self.uri.startswith("hf://") and not _ON_THE_HUB.fullmatch(self.uri):
            raise ValueError(
                f"uri: expected hf://OWNER/NAME@REVISION/FILE with the 40 digits of a revision, got {self.uri}; "
                "`visionops weights fetch NAME` writes it"
            )
        return self


class ModelSpec(_GrownSection):
    """Which model: one of the catalogue by its `name`, or by `class_path` any class or function that fits
    `visionops_assets.training.models`. A name stands for the class path of the adapter that makes it.
    """

    later: ClassVar[frozenset[str]] = frozenset({"name"})

    class_path: Annotated[str, AfterValidator(_dotted)] = Field(
        DEFAULT_MODEL, description="dotted path of the class or function"
    )
    name: str | None = Field(
        None,
        description="in place of `class_path`: one that `visionops models` lists, such as `timm/resnet18`",
    )
    init_args: dict[str, bool | int | float | str | list[Any] | dict[str, Any] | None] = Field(
        default_factory=dict, description="what it is given besides classes and input"
    )
    init_weights: InitWeights | None = Field(None, description="weights to start from; none: at random")

    @model_validator(mode="before")
    @classmethod
    def _name_stands_for_its_adapter(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            return given
        adapter = adapter_of(given["name"])
        if given.get("class_path", adapter) not in (adapter, DEFAULT_MODEL):
            raise ValueError("name and class_path both say which model: give one of them")
        return {**given, "class_path": adapter}

    @property
    def shown(self) -> str:
        """The model as its project names it."""
        return self.name or self.class_path

    def _unsaid(self) -> Iterator[str]:
        yield from super()._unsaid()
        if self.name is not None:
            yield "class_path"


class Optimiser(Section):
    """`lr` is the peak rate of the schedule; `momentum` is for sgd only."""

    name: Literal["adamw", "sgd"] = Field("adamw", description="which optimiser")
    lr: float = Field(default=3e-3, gt=0, le=100, description="the peak learning rate")
    weight_decay: float = Field(default=0.01, ge=0, description="decay of the weights")
    momentum: float | None = Field(default=None, ge=0, lt=1, description="for sgd")
    schedule: Literal["none", "cosine", "onecycle"] = Field(
        "onecycle", description="how the rate changes over the epochs"
    )

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> Self:
        if self.momentum is not None and self.name != "sgd":
            raise ValueError(f"momentum belongs to sgd; {self.name} has none: remove it or choose sgd")
        return self


class Shift(Section):
    """Move by up to `fraction` of the height and width."""

    name: Literal["shift"] = Field(description="which augmentation")
    fraction: float = Field(gt=0, le=0.5, description="of height and width")


class Rotate(Section):
    """Turn by up to `degrees` either way."""

    name: Literal["rotate"] = Field(description="which augmentation")
    degrees: float = Field(gt=0, le=180, description="either way")


class Scale(Section):
    """Enlarge or shrink by a factor between 1/(1+fraction) and 1+fraction."""

    name: Literal["scale"] = Field(description="which augmentation")
    fraction: float = Field(gt=0, le=1, description="of the size")


class HorizontalFlip(Section):
    """Mirror left and right."""

    name: Literal["horizontal_flip"] = Field(description="which augmentation")
    probability: float = Field(default=0.5, gt=0, le=1, description="how often")


class VerticalFlip(Section):
    """Mirror top and bottom."""

    name: Literal["vertical_flip"] = Field(description="which augmentation")
    probability: float = Field(default=0.5, gt=0, le=1, description="how often")


class Brightness(Section):
    """Add up to `fraction` of the value range, either way."""

    name: Literal["brightness"] = Field(description="which augmentation")
    fraction: float = Field(gt=0, le=1, description="of the value range")


class Contrast(Section):
    """Stretch or squeeze values about the image's mean by up to `fraction`."""

    name: Literal["contrast"] = Field(description="which augmentation")
    fraction: float = Field(gt=0, lt=1, description="of the distance from the mean")


class Noise(Section):
    """Add Gaussian noise whose standard deviation is drawn from 0..`sigma` (value range 0..1)."""

    name: Literal["noise"] = Field(description="which augmentation")
    sigma: float = Field(gt=0, le=1, description="the largest standard deviation")


Augmentation = Annotated[
    Shift | Rotate | Scale | HorizontalFlip | VerticalFlip | Brightness | Contrast | Noise,
    Field(discriminator="name"),
]


class Recipe(Section):
    """How a challenger is trained. Everything that can change the weights is in here.

    `threads` is fixed rather than taken from the machine: one and two threads add in another order and give
    other bits. One is the default: threads wait for each other at every operation, so on a machine that does other work
    two are many times slower than one. There is no early stopping: the number of epochs is part of the recipe.
    """

    input: InputSpec = Field(description="what the model sees")
    model: ModelSpec = Field(ModelSpec(), description="which model")
    optimiser: Optimiser = Field(Optimiser(), description="how it learns")
    epochs: int = Field(default=20, ge=1, le=10_000, description="how often all of train is seen")
    batch_size: int = Field(default=64, ge=1, le=65_536, description="images a step")
    augmentations: tuple[Augmentation, ...] = Field(
        (), description="what is done to training images, in this order"
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bfloat16 where the device multiplies it in hardware"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="of weights, order and augmentations")
    threads: int = Field(
        default=1, ge=1, le=256, description="of the training, fixed: another number gives other bits"
    )
    reproducibility: Literal["bitwise", "statistical"] = Field(
        "bitwise", description="what a reproduction is held to"
    )


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces; what digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256 (hex) of the recipe as declared, defaults included, before `resolve`."""
    return hashlib.sha256(canonical_json(recipe.model_dump(mode="json")).encode()).hexdigest()


def resolve(recipe: Recipe, *, fast_bf16: bool) -> Recipe:
    """Return the recipe that runs on a machine: `precision: auto` becomes what that machine is good at.

    `fast_bf16` says whether the device multiplies bfloat16 in hardware (`hardware.fast_bf16()`).
    A resolved recipe resolves to itself on every machine, which is what a reproduction relies on.
    """
    if recipe.precision != "auto":
        return recipe
    return recipe.model_copy(update={"precision": "bf16-mixed" if fast_bf16 else "32-true"})
