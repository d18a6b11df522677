"""The recipe: everything a project decides about a training, as a validated model.

Light on purpose (pydantic and YAML only): the project file is read wherever definitions load.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from visionops_assets.config.augmentations import Augmentation, ColourJitter, Mixing
from visionops_assets.config.model_catalogue import adapter_of
from visionops_assets.config.section import GrownSection, Section
from visionops_assets.config.training_rules import Averaging, FineTuning, Loss

ON_THE_HUB = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)@(?P<revision>[0-9a-f]{40})/(?P<file>.+)")
DEFAULT_MODEL = "visionops_assets.training.models.SmallConvNet"


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


class InitWeights(GrownSection):
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
        if self.uri.startswith("hf://") and not ON_THE_HUB.fullmatch(self.uri):
            raise ValueError(
                f"uri: expected hf://OWNER/NAME@REVISION/FILE with the 40 digits of a revision, got {self.uri}; "
                "`visionops weights fetch NAME` writes it"
            )
        return self


class ModelSpec(GrownSection):
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
        # What this writes may be read again with the adapter's path in it.
        if given.get("class_path", adapter) != adapter:
            raise ValueError("name and class_path both say which model: give one of them")
        if isinstance(given.get("init_args"), Mapping) and "name" in given["init_args"]:
            raise ValueError("init_args.name: `name` says which model; remove it from init_args")
        return {**given, "class_path": adapter}

    @property
    def shown(self) -> str:
        """The model as its project names it."""
        return self.name or self.class_path

    def _unsaid(self) -> Iterator[str]:
        yield from super()._unsaid()
        if self.name is not None:
            yield "class_path"


class Optimiser(GrownSection):
    """`lr` is the peak rate of the schedule; `momentum` is for sgd only."""

    later: ClassVar[frozenset[str]] = frozenset({"warmup_epochs", "clip_norm", "accumulate"})

    name: Literal["adamw", "sgd"] = Field("adamw", description="which optimiser")
    lr: float = Field(default=3e-3, gt=0, le=100, description="the peak learning rate")
    weight_decay: float = Field(default=0.01, ge=0, description="decay of the weights")
    momentum: float | None = Field(default=None, ge=0, lt=1, description="for sgd")
    schedule: Literal["none", "cosine", "onecycle"] = Field(
        "onecycle", description="how the rate changes over the epochs"
    )
    warmup_epochs: float = Field(
        default=0, ge=0, description="over how many the rate rises to `lr`; onecycle has a rise of its own"
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="the largest norm of all gradients together; none: as they are"
    )
    accumulate: int = Field(default=1, ge=1, le=1024, description="batches of which one step is made")

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> Self:
        if self.momentum is not None and self.name != "sgd":
            raise ValueError(f"momentum belongs to sgd; {self.name} has none: remove it or choose sgd")
        if self.warmup_epochs and self.schedule == "onecycle":
            raise ValueError("warmup_epochs: onecycle begins with a rise of its own; choose cosine or none")
        return self


class Recipe(GrownSection):
    """How a challenger is trained. Everything that can change the weights is in here.

    `threads` is fixed rather than taken from the machine: one and two threads add in another order and give
    other bits. One is the default: threads wait for each other at every operation, so on a machine that does other work
    two are many times slower than one. There is no early stopping: the number of epochs is part of the recipe.
    """

    later: ClassVar[frozenset[str]] = frozenset({"fine_tuning", "loss", "sampler", "averaging"})

    input: InputSpec = Field(description="what the model sees")
    model: ModelSpec = Field(ModelSpec(), description="which model")
    optimiser: Optimiser = Field(Optimiser(), description="how it learns")
    epochs: int = Field(default=20, ge=1, le=10_000, description="how often all of train is seen")
    batch_size: int = Field(default=64, ge=1, le=65_536, description="images a step")
    augmentations: tuple[Augmentation, ...] = Field(
        (), description="what is done to training images, in this order"
    )
    fine_tuning: FineTuning = Field(
        FineTuning(), description="how given weights are kept while the rest learns"
    )
    loss: Loss = Field(Loss(), description="of a classifier that brings none of its own")
    sampler: Literal["shuffled", "balanced"] = Field(
        "shuffled",
        description="balanced: each class as often as any other, the images of a rare one several times an epoch",
    )
    averaging: Averaging | None = Field(
        None, description="of the weights over training; none: the last are taken"
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

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> Self:
        mixing = [each.name for each in self.augmentations if isinstance(each, Mixing)]
        if len(mixing) > 1:
            raise ValueError(f"augmentations: {' and '.join(mixing)} both mix two images: give one of them")
        if self.input.channels == 1 and any(
            isinstance(each, ColourJitter) and (each.saturation or each.hue) for each in self.augmentations
        ):
            raise ValueError("augmentations: a grey image has no saturation and hue for colour_jitter")
        if self.averaging is not None and self.averaging.from_epoch > self.epochs:
            raise ValueError(f"averaging.from_epoch: there are {self.epochs} epochs")
        if self.fine_tuning.freeze_epochs >= self.epochs:
            raise ValueError(f"fine_tuning.freeze_epochs: nothing would thaw in {self.epochs} epochs")
        if self.fine_tuning.freeze_epochs and self.model.init_weights is None:
            raise ValueError("fine_tuning.freeze_epochs keeps given weights: name model.init_weights")
        return self


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
